//! Pages of history for streams that are behind their feed, read once for all of them.
//!
//! After a restart of the gateway, or an hour away, thousands come back to one room at the same time, each with a position of
//! its own. Pages begin at fixed seqs, so that readers at different positions need the same ones; the first one that needs a
//! page reads it, and the others wait for that. Whether a reader may see the page is not asked here: it was when the stream
//! was opened, and the stream ends when that changes.
//!
//! These pages are apart from those of [`crate::history`]: frames of a fixed range of seqs, without a question to SQL when they
//! are cached, since the feed knows which entry was the last that altered a message, in place of JSON for any window, which SQL confirms for each answer.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use moka::future::Cache;
use shared::domain::{Epoch, RoomEntry, RoomId, Seq};
use shared::storage::StoreError;
use tracing::warn;

use super::block::Block;
use super::damage::DamageReports;
use super::feed::{Feed, Gap};
use super::frame::Framing;
use super::room_events;
use crate::history::ReadRefused;

/// Messages of a page. A single reader reads as many to get its few; thousands read each page once.
const PAGE: u32 = 128;

/// Bytes that all pages keep together. Past it the least used ones are dropped, and read again when they are needed.
const PAGES_BYTES: u64 = 64 * 1024 * 1024;

/// How long a page is kept after it was used last: those who come back together are done by then.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// Bytes that a cached page costs beside its frames.
const PAGE_OVERHEAD: usize = 256;

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many reads of history wait.
    #[error("too many reads of history wait")]
    Refused(ReadRefused),
    /// History lacks a message that the head of the room says it has.
    #[error("message {} of room {} is missing in history", .1.0, .0.0)]
    Hole(RoomId, Seq),
}

impl ReplayError {
    /// Whether an entry is missing for good.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Hole(..))
    }
}

/// The entries after one seq, up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageKey {
    /// What was read in an earlier epoch may have been cut from history since then.
    epoch: Epoch,
    room: RoomId,
    /// The last entry that altered a message when it was read, or one before that.
    changed: Seq,
    after: Seq,
    upto: Seq,
}

impl PageKey {
    /// The page with what follows `cursor`, in the gap before the frames that the feed keeps.
    ///
    /// Pages are counted from where the feed was started: those who come back after a restart of the gateway have missed
    /// what lies just before that, and few have missed more than one page. A page that is not full yet ends where the ring of
    /// the feed begins: that is the same for all readers, while the head moves with every message.
    fn behind(cursor: Seq, gap: Gap, feed: &Feed) -> Self {
        let from = cursor.0 - (cursor.0 - feed.started_at().0).rem_euclid(i64::from(PAGE));
        let end = Seq(from + i64::from(PAGE));
        Self {
            epoch: feed.epoch,
            room: feed.room,
            changed: feed.changed(),
            // The first page of the room is shorter.
            after: Seq(from.max(0)),
            upto: if end <= gap.head { end } else { gap.floor },
        }
    }
}

/// The cached pages. Clones share them.
#[derive(Clone)]
pub(super) struct ReplayPages {
    cache: Cache<PageKey, Arc<[Block]>>,
    damage: DamageReports,
}

impl ReplayPages {
    /// No pages. Holes that are met go to `damage`.
    pub(super) fn new(damage: DamageReports) -> Self {
        let weigh = |_: &PageKey, page: &Arc<[Block]>| {
            let bytes: usize = page.iter().map(Block::kept_bytes).sum();
            u32::try_from(bytes + PAGE_OVERHEAD).unwrap_or(u32::MAX)
        };
        let pages = Cache::builder().weigher(weigh).max_capacity(PAGES_BYTES).time_to_idle(KEPT_FOR);
        Self {
            cache: pages.support_invalidation_closures().build(),
            damage,
        }
    }

    /// The first segment of what follows `cursor` in the `gap` before the frames that `feed` keeps, of at most `limit` messages,
    /// and the seq of its last one. `read` reads the messages of the room after a seq, oldest first and at most so many.
    ///
    /// It fails if an entry is missing that the reader has not got. One that is missing before them on the same page does not
    /// concern this reader, who gets a page of their own.
    pub(super) async fn read_behind<R>(
        &self,
        feed: &Feed,
        (cursor, gap): (Seq, Gap),
        (limit, framing): (usize, Framing),
        read: impl Fn(Seq, u32) -> R,
    ) -> Result<(Bytes, Seq), Arc<ReplayError>>
    where
        R: Future<Output = Result<Vec<RoomEntry>, ReplayError>>,
    {
        let load = async |key: PageKey| {
            let count = u32::try_from(key.upto.0 - key.after.0).unwrap_or(PAGE);
            let loaded = read(key.after, count).await;
            let page = loaded.and_then(|entries| encode(feed, key, &entries));
            // Reported once for all who wait for the page.
            page.inspect_err(|error| self.report(feed.room, error))
        };
        let key = PageKey::behind(cursor, gap, feed);
        let page = match self.cache.try_get_with(key, load(key)).await {
            Err(error) if matches!(*error, ReplayError::Hole(_, missing) if missing <= cursor) => {
                let own = PageKey { after: cursor, ..key };
                self.cache.try_get_with(own, load(own)).await?
            }
            page => page?,
        };
        let block = Block::find(&page, cursor);
        Ok(block.map_or_else(|| (Bytes::new(), cursor), |block| block.read_after(cursor, limit, framing)))
    }

    /// The same for a reader who does not wait; `None` if the page is not cached, or has nothing that follows.
    pub(super) fn cached_behind(&self, feed: &Feed, (cursor, gap): (Seq, Gap), framing: Framing) -> Option<Bytes> {
        let page = self.cache.get(&PageKey::behind(cursor, gap, feed)).now_or_never()??;
        let (segment, _) = Block::find(&page, cursor)?.read_after(cursor, usize::MAX, framing);
        (!segment.is_empty()).then_some(segment)
    }

    /// Drops the pages of `room`: a message on them was deleted.
    pub(super) fn forget_room(&self, room: RoomId) {
        let outcome = self.cache.invalidate_entries_if(move |key, _| key.room == room);
        outcome.expect("the cache supports it");
    }

    fn report(&self, room: RoomId, error: &ReplayError) {
        match error {
            ReplayError::Store(error) => warn!(room.id = room.0, error = %error, "cannot read history: {error}"),
            ReplayError::Refused(_) => warn!(room.id = room.0, "cannot read history: too many reads wait"),
            ReplayError::Hole(room, seq) => self.damage.report(*room, *seq),
        }
    }
}

/// The frames of a page, if no entry of it is missing.
fn encode(feed: &Feed, key: PageKey, entries: &[RoomEntry]) -> Result<Arc<[Block]>, ReplayError> {
    let mut last = key.after;
    for entry in entries {
        if entry.seq() != last.next() {
            break;
        }
        last = entry.seq();
    }
    if last != key.upto {
        return Err(ReplayError::Hole(key.room, last.next()));
    }
    let frames: Vec<_> = entries.iter().map(|entry| room_events::entry(&feed.name, feed.epoch, entry)).collect();
    Ok(Block::row(key.after, &frames).into())
}
