//! Partitions whose rooms are compared with SQL without waiting for the next round.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use shared::domain::Partition;
use tokio::sync::Notify;

/// Partitions in doubt. It holds each at most once, however often it is raised.
#[derive(Default)]
pub(super) struct Doubts {
    raised: Mutex<BTreeSet<Partition>>,
    news: Notify,
}

impl Doubts {
    /// Puts `partitions` in doubt.
    pub(super) fn raise(&self, partitions: &[Partition]) {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).extend(partitions);
        self.news.notify_one();
    }

    /// Waits until there is some doubt, and takes all of it. Nothing is lost if the wait is given up.
    pub(super) async fn take(&self) -> BTreeSet<Partition> {
        self.news.notified().await;
        std::mem::take(&mut self.raised.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
