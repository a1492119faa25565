//! Polls SQL every second to confirm that this worker still owns its partitions.
//!
//! Of several workers that start at the same moment one can claim, by an outdated view, what another one keeps, and give it up
//! at once. A commit of the other one would be refused, but a worker whose rooms are silent commits nothing: without this poll
//! their next message would wait for that refusal and a new claim.

use std::future::pending;
use std::time::Duration;

use shared::domain::{Fence, Partition};
use shared::storage::{Store, StoreError};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// Pause between two polls.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a poll may take. Whether storage answers is for claims and commits to find out.
const POLL_WITHIN: Duration = Duration::from_secs(1);

/// Polls the fences in the background, one poll at a time.
pub struct FencePoller {
    store: Store,
    in_flight: Option<AbortOnDropHandle<Option<Fences>>>,
    due: Instant,
}

/// The fence of every partition, as SQL knew it at some time since the poll began.
pub type Fences = Vec<(Partition, Fence)>;

impl FencePoller {
    /// A poller whose first poll is due after the usual pause.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            in_flight: None,
            due: Instant::now() + INTERVAL,
        }
    }

    /// Begins a poll if one is due and none is in flight.
    pub fn poll_if_due(&mut self) {
        let now = Instant::now();
        if self.in_flight.is_none() && now >= self.due {
            self.due = now + INTERVAL;
            self.in_flight = Some(AbortOnDropHandle::new(tokio::spawn(poll(self.store.clone()))));
        }
    }

    /// Waits for the end of the poll in flight; for ever if there is none. `None` if there was no answer. Nothing is lost if
    /// the caller stops waiting.
    pub async fn finished(&mut self) -> Option<Fences> {
        let Some(in_flight) = &mut self.in_flight else {
            return pending().await;
        };
        let fences = in_flight.await.ok().flatten();
        self.in_flight = None;
        fences
    }
}

async fn poll(store: Store) -> Option<Fences> {
    let log = |error: &StoreError| debug!(error = %error, "cannot compare fences: {error}");
    timeout(POLL_WITHIN, store.fences()).await.ok()?.inspect_err(log).ok()
}
