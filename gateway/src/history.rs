//! Pages of history as they go out.
//!
//! Most who read history read the same: the newest page of a room that many look at. So a page is encoded once and kept, and
//! of SQL is only asked, once for all who ask at the same time, who may see it and whether it still is what history
//! holds. The answer is never older than the question: whoever knows of a message that is stored finds it.

mod turns;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;
use shared::domain::{RoomId, Seq, StoredMessage, UserId};
use shared::storage::{HistoryNews, Room, Store, StoreError, Window};

use self::turns::Turns;
use crate::message;

/// Bytes that all pages keep together. Past it the least used ones are forgotten, and read again when they are needed.
const PAGES_BYTES: u64 = 64 * 1024 * 1024;

/// How long a page is kept after somebody read it.
const KEPT_FOR: Duration = Duration::from_mins(1);

/// What a kept page costs beside its bytes.
const PAGE_OVERHEAD: usize = 256;

/// Why a page cannot be read. Those who waited for the same read share it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Storage failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A fault of ours.
    #[error("reading history panicked")]
    Panicked,
}

/// A part of a room's history.
#[derive(Debug)]
pub struct Page {
    /// Its message objects as a JSON array, newest first.
    pub json: Bytes,
    /// The lowest and the highest seq, if it is not empty.
    pub seqs: Option<(Seq, Seq)>,
}

/// A page, and the last seq of the room when it was read.
pub type Found = (Seq, Arc<Page>);

/// What a page is a page of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Part {
    room: RoomId,
    window: Window,
    limit: u32,
}

/// What is read, and for whom where that makes a difference.
type Question = (Part, Option<UserId>);

type Answer = Result<Option<Found>, ReadError>;

/// A page that is kept, with the heads at which the room's history has it.
#[derive(Clone)]
struct Kept {
    page: Arc<Page>,
    heads: RangeInclusive<Seq>,
}

/// Reads history. Clones share what is kept.
#[derive(Clone)]
pub struct Histories {
    store: Store,
    kept: Cache<Part, Kept>,
    turns: Turns<Question, Answer>,
}

impl Histories {
    /// History as `store` has it.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let weigh = |_: &Part, kept: &Kept| u32::try_from(kept.page.json.len() + PAGE_OVERHEAD).unwrap_or(u32::MAX);
        let kept = Cache::builder().weigher(weigh).max_capacity(PAGES_BYTES).time_to_idle(KEPT_FOR);
        Self {
            store,
            kept: kept.build(),
            turns: Turns::default(),
        }
    }

    /// Forgets what was read: history was restored or cut.
    pub fn forget_all(&self) {
        self.kept.invalidate_all();
    }

    /// At most `limit` messages of `room` within `window`: `None` if it is gone, or closed to `user`.
    pub async fn read(&self, room: &Arc<Room>, user: UserId, window: Window, limit: u32) -> Answer {
        let part = Part {
            room: room.id,
            window,
            limit,
        };
        // What is public all may read together, and the statement looks whether it still is.
        let reader = room.is_private.then_some(user);
        let (this, room) = (self.clone(), Arc::clone(room));
        let reading = async move { this.read_anew(&room, part, reader).await };
        self.turns.ask((part, reader), reading).await.unwrap_or(Err(ReadError::Panicked))
    }

    async fn read_anew(&self, room: &Room, part: Part, reader: Option<UserId>) -> Answer {
        let kept = self.kept.get(&part);
        let known = kept.as_ref().map(|kept| kept.heads.clone());
        let reading = self.store.history_unless_known(part.room, reader, part.window, part.limit, known);
        let Some(HistoryNews { head, messages }) = reading.await.map_err(|error| ReadError::Store(Arc::new(error)))?
        else {
            return Ok(None);
        };
        let page = match (messages, kept) {
            (None, Some(kept)) => kept.page,
            (messages, _) => {
                let page = Arc::new(Page::of(&room.name, &messages.unwrap_or_default()));
                if let Some(heads) = heads_of(part, head, &page) {
                    let page = Arc::clone(&page);
                    self.kept.insert(part, Kept { page, heads });
                }
                page
            }
        };
        Ok(Some((head, page)))
    }
}

impl Page {
    /// The page of `messages`, which have ascending seqs, of the room named `room`.
    #[must_use]
    pub fn of(room: &str, messages: &[StoredMessage]) -> Self {
        let texts: usize = messages
            .iter()
            .map(|message| message.text.len() + message.username.len() + message.public_id.len())
            .sum();
        // What stands around them takes 220 bytes with a name of some length.
        let mut json = Vec::with_capacity(2 + texts + messages.len() * (220 + room.len()));
        json.push(b'[');
        for message in messages.iter().rev() {
            if json.len() > 1 {
                json.push(b',');
            }
            message::write(&mut json, room, message);
        }
        json.push(b']');
        let ends = messages.first().zip(messages.last());
        Self {
            json: json.into(),
            seqs: ends.map(|(first, last)| (first.seq, last.seq)),
        }
    }
}

/// The heads at which history has this page of `part`, which was read at `head`: from that one on for ever, once nothing
/// that comes can be in it. `None` if that cannot be told.
fn heads_of(part: Part, head: Seq, page: &Page) -> Option<RangeInclusive<Seq>> {
    let is_over = match part.window {
        Window::Before(before) | Window::Between(_, before) => before <= head.next(),
        Window::After(after) => page.seqs.is_some_and(|(_, last)| last.0 - after.0 >= i64::from(part.limit)),
        // Its message may be stored at any time, and moves no head that was known.
        Window::Only(_) => return None,
    };
    Some(head..=if is_over { Seq(i64::MAX) } else { head })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_for_ever_once_nothing_can_be_added_to_it() {
        let heads = |window, seqs: Option<(i64, i64)>| {
            let part = Part {
                room: RoomId(1),
                window,
                limit: 10,
            };
            let page = Page {
                json: Bytes::new(),
                seqs: seqs.map(|(first, last)| (Seq(first), Seq(last))),
            };
            heads_of(part, Seq(100), &page)
        };
        let for_ever = Some(Seq(100)..=Seq(i64::MAX));
        let for_now = Some(Seq(100)..=Seq(100));
        assert_eq!(heads(Window::Before(Seq(i64::MAX)), Some((91, 100))), for_now);
        assert_eq!(heads(Window::Before(Seq(102)), Some((91, 100))), for_now);
        assert_eq!(heads(Window::Before(Seq(101)), Some((91, 100))), for_ever);
        assert_eq!(heads(Window::Between(Seq(3), Seq(50)), Some((40, 49))), for_ever);
        assert_eq!(heads(Window::After(Seq(50)), Some((51, 60))), for_ever);
        assert_eq!(heads(Window::After(Seq(95)), Some((96, 100))), for_now);
        assert_eq!(heads(Window::After(Seq(100)), None), for_now);
    }
}
