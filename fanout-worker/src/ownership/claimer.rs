//! Claims partitions beside the storing of those that are held.
//!
//! A claim waits for a commit of the old owner that is under way; if that owner is paused, until the database ends it.
//! Nothing else has to wait for that.

use std::future::pending;
use std::time::Duration;

use shared::domain::Partition;
use shared::storage::{Claim, Store};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::WorkerName;
use super::worker_registry::HEARTBEAT;
use crate::persist::GIVE_UP_AFTER;

/// How long a claim may take: longer than a database lets a transaction stay open whose owner was paused in its middle.
/// After that it is tried again, until [`GIVE_UP_AFTER`] is over. Whether it came through does not matter: the next claim raises
/// the fence again.
const CLAIM_WITHIN: Duration = Duration::from_millis(1_500);

/// Claims have been failing for [`GIVE_UP_AFTER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageAway;

/// What was claimed, and by whom.
#[derive(Debug)]
pub struct Claimed {
    /// The name under which it was claimed.
    pub owner: WorkerName,
    /// What is ours now; empty if the claim failed and is to be tried again.
    pub claims: Vec<Claim>,
}

/// The claim that is under way, if any: one at a time.
pub struct Claimer {
    store: Store,
    under_way: Option<UnderWay>,
    /// Since when claims have been failing.
    failing_since: Option<Instant>,
    /// A pause after a claim that failed: until then none is begun.
    not_before: Instant,
}

struct UnderWay {
    owner: WorkerName,
    began: Instant,
    task: AbortOnDropHandle<Result<Vec<Claim>, String>>,
}

impl Claimer {
    /// Nothing is claimed yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            under_way: None,
            failing_since: None,
            not_before: Instant::now(),
        }
    }

    /// Begins to claim `partitions` for `owner`, unless another claim is under way or has just failed: then ask again.
    pub fn begin(&mut self, partitions: Vec<Partition>, owner: &WorkerName) {
        let now = Instant::now();
        if partitions.is_empty() {
            self.failing_since = None;
        }
        if partitions.is_empty() || self.under_way.is_some() || now < self.not_before {
            return;
        }
        let claiming = claim(self.store.clone(), partitions, owner.clone());
        self.under_way = Some(UnderWay {
            owner: owner.clone(),
            began: now,
            task: AbortOnDropHandle::new(tokio::spawn(claiming)),
        });
    }

    /// Waits for the end of the claim that is under way; for ever if there is none. Nothing is lost if the caller stops
    /// waiting.
    pub async fn done(&mut self) -> Result<Claimed, StorageAway> {
        let Some(under_way) = &mut self.under_way else {
            return pending().await;
        };
        let outcome = (&mut under_way.task).await.unwrap_or_else(|error| Err(error.to_string()));
        let (owner, began) = (under_way.owner.clone(), under_way.began);
        self.under_way = None;
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

    /// Takes no interest any more in the claim that is under way. If it comes through all the same, the next one raises
    /// the fence again.
    pub fn forget(&mut self) {
        self.under_way = None;
        self.failing_since = None;
    }

    fn note_failure(&mut self, reason: &str, began: Instant) -> Result<(), StorageAway> {
        if self.failing_since.is_none() {
            warn!(error = reason, "cannot claim partitions, trying on: {reason}");
        }
        let since = *self.failing_since.get_or_insert(began);
        if since.elapsed() >= GIVE_UP_AFTER {
            self.failing_since = None;
            return Err(StorageAway);
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
