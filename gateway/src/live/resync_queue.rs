//! Partitions whose rooms are to be compared with SQL at once, without waiting for the next round.

use std::collections::BTreeSet;
use std::mem;

use parking_lot::Mutex;
use shared::domain::Partition;
use tokio::sync::Notify;

/// Stale partitions. It holds each at most once, however often it is marked.
#[derive(Default)]
pub(super) struct ResyncQueue {
    stale: Mutex<BTreeSet<Partition>>,
    changed: Notify,
}

impl ResyncQueue {
    /// Marks `partitions` as stale: events of their rooms may have been lost.
    pub(super) fn mark_stale(&self, partitions: &[Partition]) {
        self.stale.lock().extend(partitions);
        self.changed.notify_one();
    }

    /// Waits until some partitions are stale, and takes all of them out. Nothing is lost if the wait is dropped.
    pub(super) async fn next_stale(&self) -> BTreeSet<Partition> {
        self.changed.notified().await;
        mem::take(&mut self.stale.lock())
    }
}
