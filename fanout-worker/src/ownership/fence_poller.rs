//! Looks once a second whether what this worker holds is still its own by SQL.
//!
//! Of several workers that come at the same moment one can claim, by an outdated view, what another one keeps, and give it
//! up at once. A commit of the other one would be refused, but a worker whose rooms are silent commits nothing: without
//! this look their next message would wait for that refusal and a new claim.

use std::future::pending;
use std::time::Duration;

use shared::domain::{Fence, Partition};
use shared::storage::{Store, StoreError};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a look may take. Whether storage answers is for claims and commits to find out.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// The look that is under way, if any.
pub struct FencePoller {
    store: Store,
    under_way: Option<AbortOnDropHandle<Option<Fences>>>,
    due: Instant,
}

/// The fence of every partition, as SQL knew it at some time since the look began.
pub type Fences = Vec<(Partition, Fence)>;

impl FencePoller {
    /// The first look is due after the usual pause.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            under_way: None,
            due: Instant::now() + INTERVAL,
        }
    }

    /// Begins to look if it is time.
    pub fn begin(&mut self) {
        let now = Instant::now();
        if self.under_way.is_none() && now >= self.due {
            self.due = now + INTERVAL;
            self.under_way = Some(AbortOnDropHandle::new(tokio::spawn(look(self.store.clone()))));
        }
    }

    /// Waits for the end of the look that is under way; for ever if there is none. `None` if there was no answer. Nothing
    /// is lost if the caller stops waiting.
    pub async fn done(&mut self) -> Option<Fences> {
        let Some(under_way) = &mut self.under_way else {
            return pending().await;
        };
        let seen = under_way.await.ok().flatten();
        self.under_way = None;
        seen
    }
}

async fn look(store: Store) -> Option<Fences> {
    let log = |error: &StoreError| debug!(error = %error, "cannot compare fences: {error}");
    timeout(LOOK_WITHIN, store.fences()).await.ok()?.inspect_err(log).ok()
}
