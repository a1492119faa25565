//! The registry of living workers in Redis, and this worker's lease in it.
//!
//! One sorted set holds the living workers; module `heartbeat` renews this worker's lease in it and reads the others.
//!
//! A [`View`] is valid until this worker's lease would expire by its own clock, counted from before the request was sent. A
//! process that was paused compares that clock with the view before it uses the view, and so notices its own pause.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::RedisConnector;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use uuid::Uuid;

use super::heartbeat::Heartbeat;

/// How long the lease of a worker lasts that does not renew it.
pub const TTL: Duration = Duration::from_millis(1_500);

/// How long the lease of a worker lasts whose connection to Redis is gone: time for a new connection when Redis itself was away.
pub const GRACE: Duration = Duration::from_millis(300);

/// How often a worker reads the registry: how soon others take over from a worker that leaves.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// How long leaving may take. After that the lease expires by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// The name of a worker for as long as it keeps its lease. Names sort by the time at which they were created (UUIDv7).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName(String);

impl WorkerName {
    /// A name that no worker had before.
    #[must_use]
    pub fn fresh() -> Self {
        Uuid::now_v7().into()
    }

    /// A name as it stands in Redis.
    pub(super) fn from_redis(raw: String) -> Self {
        Self(raw)
    }

    /// The name as it stands in Redis and SQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for WorkerName {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl std::fmt::Display for WorkerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one heartbeat read from the registry.
#[derive(Debug, Clone)]
pub struct View {
    /// The name under which this worker has its lease.
    pub me: WorkerName,
    /// The living workers, this one included; empty if this one has left.
    pub living: Arc<[WorkerName]>,
    /// When the request was sent, by this worker's clock.
    pub asked_at: Instant,
    /// Until when the view is valid, by this worker's clock.
    pub valid_until: Instant,
}

impl View {
    /// The living workers if the view is still valid at `now`, none otherwise.
    #[must_use]
    pub fn living_at(&self, now: Instant) -> &[WorkerName] {
        if now < self.valid_until { &self.living } else { &[] }
    }
}

/// This worker's membership in the registry. Dropping it stops the renewal, and the lease expires.
pub struct WorkerRegistry {
    wants_lease: watch::Sender<bool>,
    view: watch::Receiver<View>,
    _heartbeat: AbortOnDropHandle<()>,
}

impl WorkerRegistry {
    /// Joins, and keeps the lease renewed. Joining need not have succeeded yet when this returns.
    #[must_use]
    pub fn join(redis: RedisConnector) -> Self {
        let (wants_lease, wanted) = watch::channel(true);
        let me = WorkerName::fresh();
        let empty = View {
            me: me.clone(),
            living: Arc::new([]),
            asked_at: Instant::now(),
            valid_until: Instant::now(),
        };
        let (views, view) = watch::channel(empty);
        let heartbeat = Heartbeat::new(redis, me, views);
        Self {
            wants_lease,
            view,
            _heartbeat: AbortOnDropHandle::new(tokio::spawn(heartbeat.run(wanted))),
        }
    }

    /// The last view. Its user compares its time with the clock, as [`View::living_at`] does.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits for the next view.
    pub async fn changed(&mut self) {
        self.view.changed().await.expect("the heartbeat ends with this registry, or by a panic of its own");
    }

    /// Gives up the lease, so that others take over at their next heartbeat instead of when it expires.
    pub async fn leave(&mut self) {
        self.wants_lease.send_replace(false);
        let left = self.view.wait_for(|view| view.living.is_empty());
        if !matches!(timeout(LEAVE_WITHIN, left).await, Ok(Ok(_))) {
            warn!("the lease in the registry of workers was not given back and expires by itself");
        }
    }

    /// Takes a new lease after [`WorkerRegistry::leave`].
    pub fn rejoin(&mut self) {
        self.wants_lease.send_replace(true);
    }
}
