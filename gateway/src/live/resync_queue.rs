//! Partitions whose rooms are compared with SQL without waiting for the next round.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use shared::domain::Partition;
use tokio::sync::Notify;

/// Partitions in doubt. It holds each at most once, however often it is stale.
#[derive(Default)]
pub(super) struct ResyncQueue {
    stale: Mutex<BTreeSet<Partition>>,
    news: Notify,
}

impl ResyncQueue {
    /// Puts `partitions` in doubt.
    pub(super) fn mark_stale(&self, partitions: &[Partition]) {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(partitions);
        self.news.notify_one();
    }

    /// Waits until there is some doubt, and takes all of it. Nothing is lost if the wait is given up.
    pub(super) async fn next_stale(&self) -> BTreeSet<Partition> {
        self.news.notified().await;
        std::mem::take(&mut self.stale.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
