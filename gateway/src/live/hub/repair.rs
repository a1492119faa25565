//! Reads from SQL what a feed is missing, once for all its readers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::domain::Seq;
use shared::storage::{Store, StoreError};
use shared::telemetry::LogEvent;

use super::feed_entry::FeedEntry;
use crate::live::damage::DamageReports;
use crate::live::feed::Feed;

/// Entries read at once.
const GAP_PAGE: u32 = 500;

static READ_FAILS: LogEvent =
    LogEvent::outage("catching_up_fails", "cannot read entries that streams are missing, and tries again each second");

/// Reads what the feed is missing, unless another task does.
///
/// A failure is not retried here: a second later the feed is missing them still, and is repaired again.
pub(super) fn repair(store: &Store, damage: &DamageReports, entry: &Arc<FeedEntry>) {
    let Some(guard) = RepairGuard::acquire(entry) else {
        return;
    };
    let (store, damage, entry) = (store.clone(), damage.clone(), Arc::clone(entry));
    tokio::spawn(async move {
        let filled = fill(&store, &damage, &entry.feed).await;
        drop(guard);
        match filled {
            // A message may have become known after the last read and before the guard was dropped.
            Ok(()) if entry.feed.has_gap() => repair(&store, &damage, &entry),
            Ok(()) => {}
            Err(error) => READ_FAILS.report("", format_args!("room {}: {error}", entry.feed.room.0)),
        }
    });
}

/// The exclusive right to repair a feed. It ends when this is dropped, be it by a panic.
pub(super) struct RepairGuard(Arc<FeedEntry>);

impl RepairGuard {
    /// Acquires the right; `None` if another task has it.
    pub(super) fn acquire(entry: &Arc<FeedEntry>) -> Option<Self> {
        let is_held = entry.repairing.swap(true, Ordering::AcqRel);
        (!is_held).then(|| Self(Arc::clone(entry)))
    }
}

impl Drop for RepairGuard {
    fn drop(&mut self) {
        self.0.repairing.store(false, Ordering::Release);
    }
}

/// Appends what is missing from history, page by page. Seqs are dense: where history has a later message and not the next
/// one, it is damaged, and the feed goes on after the hole.
pub(super) async fn fill(store: &Store, damage: &DamageReports, feed: &Feed) -> Result<(), StoreError> {
    loop {
        let (known, before) = (feed.known_head(), feed.head());
        let entries = store.entries_after(feed.room, before, GAP_PAGE).await?;
        let next = if let Some(first) = entries.first() {
            first.seq()
        } else {
            let stored = store.head(feed.room).await?.seq;
            if stored <= before {
                // Whoever announced more was wrong.
                feed.retract_known_head(known);
                return Ok(());
            }
            // Messages stored since the last read are there by now.
            if !store.entries_after(feed.room, before, 1).await?.is_empty() {
                continue;
            }
            stored.next()
        };
        if next > before.next() {
            damage.report(feed.room, before.next());
            feed.skip_to(Seq(next.0 - 1));
        }
        if !feed.append(&entries) {
            return Ok(());
        }
    }
}
