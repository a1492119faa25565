//! Claims partitions while the worker stores entries of those it owns.
//!
//! A claim waits for a commit of the old owner that is in flight; if that owner is paused, until the database ends it. Nothing
//! else has to wait for that.

use std::future::pending;
use std::time::Duration;

use shared::domain::Partition;
use shared::storage::{Claim, Store};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::WorkerName;
use super::view::HEARTBEAT;
use crate::persist::GIVE_UP_AFTER;

/// How long a claim may take: longer than a database lets a transaction stay open whose owner was paused in its middle. The
/// claimer tries again after that, until [`GIVE_UP_AFTER`] is over. Whether the claim came through does not matter: the next
/// one raises the fence again.
const CLAIM_WITHIN: Duration = Duration::from_millis(1_500);

/// Claims have been failing for [`GIVE_UP_AFTER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageUnavailable;

/// What was claimed, and by whom.
#[derive(Debug)]
pub struct Claimed {
    /// The name under which it was claimed.
    pub owner: WorkerName,
    /// The claims; empty if the attempt failed and is to be repeated.
    pub claims: Vec<Claim>,
}

/// Claims partitions in the background, one claim at a time.
pub struct Claimer {
    store: Store,
    in_flight: Option<InFlight>,
    /// Since when claims have been failing.
    failing_since: Option<Instant>,
    /// The end of the pause after a claim that failed.
    not_before: Instant,
}

struct InFlight {
    owner: WorkerName,
    began: Instant,
    task: AbortOnDropHandle<Result<Vec<Claim>, String>>,
}

impl Claimer {
    /// A claimer that has claimed nothing yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            in_flight: None,
            failing_since: None,
            not_before: Instant::now(),
        }
    }

    /// Begins to claim `partitions` for `owner`, unless another claim is in flight or has just failed: then the caller asks
    /// again.
    pub fn begin(&mut self, partitions: Vec<Partition>, owner: &WorkerName) {
        let now = Instant::now();
        if self.in_flight.is_some() || now < self.not_before {
            return;
        }
        let claiming = claim(self.store.clone(), partitions, owner.clone());
        self.in_flight = Some(InFlight {
            owner: owner.clone(),
            began: now,
            task: AbortOnDropHandle::new(tokio::spawn(claiming)),
        });
    }

    /// Forgets that claims have been failing: there is nothing left to claim.
    pub fn forget_failures(&mut self) {
        self.failing_since = None;
    }

    /// Waits for the end of the claim in flight; for ever if there is none. Nothing is lost if the caller stops waiting.
    pub async fn finished(&mut self) -> Result<Claimed, StorageUnavailable> {
        let Some(in_flight) = &mut self.in_flight else {
            return pending().await;
        };
        let outcome = (&mut in_flight.task).await.unwrap_or_else(|error| Err(error.to_string()));
        let (owner, began) = (in_flight.owner.clone(), in_flight.began);
        self.in_flight = None;
        match outcome {
            Ok(claims) => {
                self.failing_since = None;
                Ok(Claimed { owner, claims })
            }
            Err(reason) => {
                self.note_failure(&reason, began)?;
                Ok(Claimed {
                    owner,
                    claims: Vec::new(),
                })
            }
        }
    }

    /// Ignores the claim in flight. If it comes through all the same, the next one raises the fence again.
    pub fn forget(&mut self) {
        self.in_flight = None;
        self.failing_since = None;
    }

    fn note_failure(&mut self, reason: &str, began: Instant) -> Result<(), StorageUnavailable> {
        if self.failing_since.is_none() {
            warn!(error = reason, "cannot claim partitions, retrying: {reason}");
        }
        let since = *self.failing_since.get_or_insert(began);
        if since.elapsed() >= GIVE_UP_AFTER {
            self.failing_since = None;
            return Err(StorageUnavailable);
        }
        self.not_before = Instant::now() + HEARTBEAT;
        Ok(())
    }
}

async fn claim(store: Store, partitions: Vec<Partition>, owner: WorkerName) -> Result<Vec<Claim>, String> {
    match timeout(CLAIM_WITHIN, store.claim(&partitions, owner.as_str())).await {
        Ok(claimed) => claimed.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
