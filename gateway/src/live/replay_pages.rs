//! History for the readers that are behind their feed, read once for all of them.
//!
//! After a restart of the gateway, or an hour away, thousands come back to one room at the same time, each with a place of
//! its own. Pages begin at fixed seqs, so that readers at different places need the same ones; whoever is first to need
//! one reads it, and the others wait for that. Whether a reader may see it is not asked here: it was when the stream was
//! opened, and the stream ends when that changes.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use shared::domain::{Epoch, RoomId, Seq, StoredMessage};
use shared::storage::StoreError;
use tracing::warn;

use super::block::Block;
use super::feed::{Feed, Gap};
use super::frame::{self, Framing};
use super::hub::report_damage;
use crate::history::ReadRefused;

/// Messages of a page. A lone reader reads as many to get its few; a crowd reads each page once.
const PAGE: u32 = 128;

/// Bytes that all pages keep together. Past it the least used ones are forgotten, and read again when they are needed.
const PAGES_BYTES: u64 = 64 * 1024 * 1024;

/// How long a page is kept after somebody used it: a crowd is through by then.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// What a kept page costs beside its bytes.
const PAGE_OVERHEAD: usize = 256;

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many reads wait.
    #[error("too many reads of history wait")]
    Refused(ReadRefused),
    /// History has not got what the room's head says it has.
    #[error("message {} of room {} is missing in history", .1.0, .0.0)]
    Hole(RoomId, Seq),
}

/// The messages above one seq, up to and with another. They never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageKey {
    /// What was read in an earlier epoch may have been cut from history since.
    epoch: Epoch,
    room: RoomId,
    after: Seq,
    upto: Seq,
}

impl PageKey {
    /// The page with what follows `cursor`, in the gap between it and what the feed keeps.
    ///
    /// Pages are counted from where the feed was started: those who come back after a restart of the gateway have missed
    /// what lies just before that, and few have missed more than one page. A page that is not full yet ends where the feed
    /// begins: that is the same for all readers, while the head moves with every message.
    fn behind(cursor: Seq, gap: Gap, feed: &Feed) -> Self {
        let from = cursor.0 - (cursor.0 - feed.started_at().0).rem_euclid(i64::from(PAGE));
        let end = Seq(from + i64::from(PAGE));
        Self {
            epoch: feed.epoch,
            room: feed.room,
            // The room's first page is shorter.
            after: Seq(from.max(0)),
            upto: if end <= gap.head { end } else { gap.floor },
        }
    }
}

/// Damages that were told of, so that each is told once. When so many are, all are forgotten and told again.
const REPORTED: usize = 10_000;

/// The pages kept now. Clones share them.
#[derive(Clone)]
pub(super) struct ReplayPages {
    kept: Cache<PageKey, Arc<[Block]>>,
    reported: Arc<Mutex<HashSet<(RoomId, Seq)>>>,
}

impl Default for ReplayPages {
    fn default() -> Self {
        let weigh = |_: &PageKey, page: &Arc<[Block]>| {
            let bytes: usize = page.iter().map(Block::kept_bytes).sum();
            u32::try_from(bytes + PAGE_OVERHEAD).unwrap_or(u32::MAX)
        };
        let pages = Cache::builder().weigher(weigh).max_capacity(PAGES_BYTES).time_to_idle(KEPT_FOR);
        Self {
            kept: pages.build(),
            reported: Arc::default(),
        }
    }
}

impl ReplayPages {
    /// The first segment of what follows `cursor` in the `gap` before what `feed` keeps, of at most `limit` messages, and the
    /// last one's seq. `read` reads the messages of the room above a seq, oldest first and at most so many.
    pub(super) async fn read_behind<R>(
        &self,
        feed: &Feed,
        (cursor, gap): (Seq, Gap),
        (limit, framing): (usize, Framing),
        read: impl FnOnce(Seq, u32) -> R,
    ) -> Result<(Bytes, Seq), Arc<ReplayError>>
    where
        R: Future<Output = Result<Vec<StoredMessage>, ReplayError>>,
    {
        let place = PageKey::behind(cursor, gap, feed);
        let load = async {
            let count = u32::try_from(place.upto.0 - place.after.0).unwrap_or(PAGE);
            let loaded = read(place.after, count).await;
            let page = loaded.and_then(|messages| encode(feed, place, &messages));
            // Said once for all who wait for it.
            page.inspect_err(|error| self.report(feed.room, error))
        };
        let page = self.kept.try_get_with(place, load).await?;
        let block = Block::find(&page, cursor);
        Ok(block.map_or_else(|| (Bytes::new(), cursor), |block| block.read_after(cursor, limit, framing)))
    }

    fn report(&self, room: RoomId, error: &ReplayError) {
        match error {
            ReplayError::Store(error) => warn!(room.id = room.0, error = %error, "cannot read history: {error}"),
            ReplayError::Refused(_) => warn!(room.id = room.0, "cannot read history: too many reads wait"),
            ReplayError::Hole(room, seq) => {
                let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
                if reported.len() >= REPORTED {
                    reported.clear();
                }
                if reported.insert((*room, *seq)) {
                    report_damage(*room, *seq);
                }
            }
        }
    }
}

/// The frames of a page, if it is whole.
fn encode(feed: &Feed, place: PageKey, messages: &[StoredMessage]) -> Result<Arc<[Block]>, ReplayError> {
    let mut last = place.after;
    for message in messages {
        if message.seq != last.next() {
            break;
        }
        last = message.seq;
    }
    if last != place.upto {
        return Err(ReplayError::Hole(place.room, last.next()));
    }
    let frames: Vec<_> = messages.iter().map(|message| frame::message(&feed.name, feed.epoch, message)).collect();
    Ok(Block::row(place.after, &frames).into())
}
