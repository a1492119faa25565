//! The registry of living workers in Redis, and this worker's registration in it.
//!
//! One sorted set holds the living workers; module `heartbeat` renews this worker's registration and reads the others.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::RedisConnector;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::heartbeat::Heartbeat;
use super::view::{View, WorkerName};

/// How long leaving may take. After that the registration expires by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// This worker's registration. Dropping it stops the renewal, and the registration expires.
pub struct WorkerRegistry {
    wants_registration: watch::Sender<bool>,
    view: watch::Receiver<View>,
    _heartbeat: AbortOnDropHandle<()>,
}

impl WorkerRegistry {
    /// Joins, and keeps the registration renewed. Joining need not have succeeded yet when this returns.
    #[must_use]
    pub fn join(redis: RedisConnector) -> Self {
        let (wants_registration, wanted) = watch::channel(true);
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
            wants_registration,
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

    /// Removes the registration, so that others take over at their next heartbeat instead of when it expires.
    pub async fn leave(&mut self) {
        self.wants_registration.send_replace(false);
        let left = self.view.wait_for(|view| view.living.is_empty());
        if !matches!(timeout(LEAVE_WITHIN, left).await, Ok(Ok(_))) {
            warn!("the registration of this worker was not removed and expires by itself");
        }
    }

    /// Registers anew after [`WorkerRegistry::leave`].
    pub fn rejoin(&mut self) {
        self.wants_registration.send_replace(true);
    }
}
