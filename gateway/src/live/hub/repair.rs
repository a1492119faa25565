//! Reading from SQL what a feed is missing, once for all its readers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::domain::Seq;
use shared::storage::{Store, StoreError};
use tracing::error;

use super::slot::Slot;
use crate::live::feed::Feed;

/// Messages read at once.
const GAP_PAGE: u32 = 500;

/// Why a feed still misses what it missed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepairError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// History has what comes later, and not this message. Seqs are dense, so something has damaged it.
    #[error("message {} is missing in history", .0.0)]
    Hole(Seq),
}

/// Reads what the feed is missing, unless somebody is at it.
///
/// What fails is tried again when the next comparison of heads finds something missing.
pub(super) fn repair(store: &Store, slot: &Arc<Slot>) {
    let Some(turn) = Turn::take(slot) else {
        return;
    };
    let (store, slot) = (store.clone(), Arc::clone(slot));
    tokio::spawn(async move {
        let filled = fill(&store, &slot.feed).await;
        drop(turn);
        match filled {
            // Something may have been heard of after the last look and before the turn ended.
            Ok(()) if slot.feed.is_missing_some() => repair(&store, &slot),
            Ok(()) => {}
            Err(error) => {
                error!(room.id = slot.feed.room.0, error = %error, "cannot read missing messages: {error}");
            }
        }
    });
}

/// The turn to repair a feed. It ends when this is dropped, be it by a panic.
pub(super) struct Turn(Arc<Slot>);

impl Turn {
    /// Takes the turn; `None` if somebody has it.
    pub(super) fn take(slot: &Arc<Slot>) -> Option<Self> {
        let is_taken = slot.repairing.swap(true, Ordering::AcqRel);
        (!is_taken).then(|| Self(Arc::clone(slot)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.repairing.store(false, Ordering::Release);
    }
}

/// Takes what is missing from history, page by page.
pub(super) async fn fill(store: &Store, feed: &Feed) -> Result<(), RepairError> {
    loop {
        let (heard, before) = (feed.heard(), feed.head());
        let messages = store.messages_after(feed.room, before, GAP_PAGE).await?;
        if messages.is_empty() {
            // Whoever told of more was wrong.
            feed.forget(heard);
            return Ok(());
        }
        if !feed.take(&messages) {
            return Ok(());
        }
        if feed.head() == before {
            return Err(RepairError::Hole(before.next()));
        }
    }
}
