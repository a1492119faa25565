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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_stale_partition_is_returned_once() {
        let queue = ResyncQueue::default();
        queue.mark_stale(&[Partition(1)]);
        queue.mark_stale(&[Partition(2), Partition(1)]);
        assert_eq!(queue.next_stale().now_or_never(), Some([Partition(1), Partition(2)].into()));
        assert_eq!(queue.next_stale().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_dropped_wait_loses_nothing() {
        let queue = ResyncQueue::default();
        let mut dropped = Box::pin(queue.next_stale());
        assert_eq!((&mut dropped).now_or_never(), None);
        queue.mark_stale(&[Partition(1)]);
        drop(dropped);
        assert_eq!(queue.next_stale().now_or_never(), Some([Partition(1)].into()));
    }
}
