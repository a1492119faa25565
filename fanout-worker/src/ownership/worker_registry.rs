//! Who is alive, as Redis knows it.
//!
//! One sorted set holds the living workers; module `beat` renews our place in it and reads the others'.
//!
//! What was learnt is believed until our place would run out by our own clock, counted from before the question was sent.
//! A process that was paused compares that clock with the [`View`] before it uses it, and so finds out itself.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::RedisConnector;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use uuid::Uuid;

use super::heartbeat::Heartbeat;

/// How long a worker keeps its place of which nothing is heard.
pub const TTL: Duration = Duration::from_millis(1_500);

/// How long a worker keeps its place whose connection to Redis is gone: time for a new one when Redis itself was away.
pub const GRACE: Duration = Duration::from_millis(300);

/// How often the set is looked at: how soon others take over from a worker that leaves.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// How long leaving may take. After that our place runs out by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// The name of a worker for as long as it keeps its place. Names sort by the time at which they were taken (UUIDv7).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName(String);

impl WorkerName {
    /// A name nobody had before.
    #[must_use]
    pub fn fresh() -> Self {
        Uuid::now_v7().into()
    }

    /// A name as it stands in Redis.
    pub(super) fn read(raw: String) -> Self {
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

/// What one look at the set told.
#[derive(Debug, Clone)]
pub struct View {
    /// The name under which we have our place.
    pub me: WorkerName,
    /// The living, ourselves included; empty if we have left.
    pub living: Arc<[WorkerName]>,
    /// When it was asked for, by our own clock.
    pub asked_at: Instant,
    /// Until when all this counts, by our own clock.
    pub valid_until: Instant,
}

impl View {
    /// The living if the view still counts at `now`, nobody otherwise.
    #[must_use]
    pub fn living_at(&self, now: Instant) -> &[WorkerName] {
        if now < self.valid_until { &self.living } else { &[] }
    }
}

/// Our place among the workers. Dropping it stops the renewal, and the place runs out.
pub struct WorkerRegistry {
    wish: watch::Sender<bool>,
    view: watch::Receiver<View>,
    _beats: AbortOnDropHandle<()>,
}

impl WorkerRegistry {
    /// Joins, and keeps the place from now on. It need not have succeeded yet when this returns.
    #[must_use]
    pub fn join(redis: RedisConnector) -> Self {
        let (wish, wished) = watch::channel(true);
        let me = WorkerName::fresh();
        let nothing = View {
            me: me.clone(),
            living: Arc::new([]),
            asked_at: Instant::now(),
            valid_until: Instant::now(),
        };
        let (told, view) = watch::channel(nothing);
        let beats = Heartbeat::new(redis, me, told);
        Self {
            wish,
            view,
            _beats: AbortOnDropHandle::new(tokio::spawn(beats.run(wished))),
        }
    }

    /// What is known now. Compare its time with the clock before using it.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits for the next look at the set that succeeds.
    pub async fn looked(&mut self) {
        self.view
            .changed()
            .await
            .expect("the task that looks ends with this membership, or by a panic of its own");
    }

    /// Gives up the place, so that others take over at their next look instead of when it runs out.
    pub async fn leave(&mut self) {
        self.wish.send_replace(false);
        let left = self.view.wait_for(|view| view.living.is_empty());
        if !matches!(timeout(LEAVE_WITHIN, left).await, Ok(Ok(_))) {
            warn!("the place among the workers was not given back and runs out by itself");
        }
    }

    /// Takes a new place after [`WorkerRegistry::leave`].
    pub fn rejoin(&mut self) {
        self.wish.send_replace(true);
    }
}
