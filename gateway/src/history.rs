//! Pages of history, encoded as JSON and cached.
//!
//! Most clients that read history read the same: the newest page of a room that many look at. So a page is encoded once and
//! cached, and SQL is asked only, once for all who ask at the same time, who may see it and whether it still is what history
//! holds. The answer is never older than the question: whoever knows of a stored message finds it.

mod fair_queue;
mod page;
mod read_rate;
mod single_flight;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use shared::blocking::block_in_place_if_large;
use shared::domain::{MessageId, RoomEntry, RoomId, Seq, StoredMessage, UserId};
use shared::storage::{HistoryPage, KnownPage, Room, Search, SearchError, SearchPage, Store, StoreError, Window};

use self::fair_queue::{FairQueue, Permit};
pub use self::fair_queue::{MAX_WAITING_PER_READER, ReadRefused};
pub use self::page::{PAGE_MAX_BYTES, Page};
pub use self::read_rate::{HistoryRate, HistoryRates};
use self::single_flight::SingleFlight;

/// Bytes that all pages keep together. Past it the least used ones are dropped, and read again when they are needed.
const PAGES_BYTES: u64 = 64 * 1024 * 1024;

/// How long a page is kept after it was read last.
const KEPT_FOR: Duration = Duration::from_mins(1);

/// Bytes that a cached page costs beside its JSON.
const PAGE_OVERHEAD: usize = 256;

/// A reader, of those among whom the reads are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reader {
    /// A user.
    User(UserId),
    /// A user who looks up a single message. This tells whether a post was accepted, and must not wait for pages.
    LookUp(UserId),
    /// All streams of a room that are behind.
    Followers(RoomId),
}

/// The queue of all reads of history, for pages and for streams that are behind. Clones share it.
pub type ReadQueue = FairQueue<Reader>;

/// Permission to read, until it is dropped or released.
pub type ReadPermit = Permit<Reader>;

/// Why a page cannot be read. All who waited for the same read share the error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Storage failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// Too many reads of history wait.
    #[error("too many reads of history wait")]
    Refused(ReadRefused),
    /// A search takes too long.
    #[error("searching takes too long")]
    TooSlow,
    /// A fault of ours.
    #[error("reading history panicked")]
    Panicked,
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// The last seq of the room when a page was read, and the page.
pub type PageAtHead = (Seq, Arc<Page>);

/// The range of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageRange {
    room: RoomId,
    window: Window,
    limit: u32,
}

/// What is read, and for which user where that makes a difference.
type ReadKey = (PageRange, Option<UserId>);

type PageResult = Result<Option<PageAtHead>, ReadError>;

/// A cached page, and when the history of the room has it.
#[derive(Clone)]
struct CachedPage {
    page: Arc<Page>,
    known: KnownPage,
}

/// Reads pages of history. Clones share the cache.
#[derive(Clone)]
pub struct HistoryPages {
    store: Store,
    cache: Cache<PageRange, CachedPage>,
    single_flight: SingleFlight<ReadKey, PageResult>,
    read_queue: ReadQueue,
    rates: HistoryRates,
}

impl HistoryPages {
    /// The history in `store`, read in turn with everything in `read_queue`, and by no user faster than `rates` allow.
    #[must_use]
    pub fn new(store: Store, read_queue: ReadQueue, rates: HistoryRates) -> Self {
        // The compressed form, if there is one, takes half as much at most.
        let weigh = |_: &PageRange, cached: &CachedPage| {
            u32::try_from(cached.page.json.len() / 2 * 3 + PAGE_OVERHEAD).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weigh).max_capacity(PAGES_BYTES).time_to_idle(KEPT_FOR);
        Self {
            store,
            cache: cache.support_invalidation_closures().build(),
            single_flight: SingleFlight::default(),
            read_queue,
            rates,
        }
    }

    /// Empties the cache: history was restored or cut.
    pub fn forget_all(&self) {
        self.cache.invalidate_all();
    }

    /// Drops the pages of `room`: a message on them was deleted.
    pub fn forget_room(&self, room: RoomId) {
        let outcome = self.cache.invalidate_entries_if(move |range, _| range.room == room);
        outcome.expect("the cache supports it");
    }

    /// At most `limit` messages of `room` within `window`: `None` if it is gone, or closed to `user`.
    pub async fn page(&self, room: &Arc<Room>, user: UserId, window: Window, limit: u32) -> PageResult {
        let range = PageRange {
            room: room.id,
            window,
            limit,
        };
        let reader = match window {
            Window::Only(_) => Reader::LookUp(user),
            Window::Before(_) | Window::After(_) | Window::Between(..) | Window::Around(_) => Reader::User(user),
        };
        let member = room.is_private.then_some(user);
        // A read of a public room is shared by all users, and its statement checks that the room is still public. But nobody shares
        // the read of a user who has read too much and must wait.
        let asker = (room.is_private || self.read_queue.must_wait(reader)).then_some(user);
        let (this, room) = (self.clone(), Arc::clone(room));
        let reading = async move |permit: ReadPermit| {
            let answer = this.load_page(&room, range, member).await;
            let bytes = answer.as_ref().ok().and_then(Option::as_ref).map_or(0, |(_, page)| page.json.len());
            // The user who asked first is charged for all who share the answer.
            this.release(permit, reader, bytes);
            answer
        };
        let queue = self.read_queue.clone();
        let admit = async move { queue.acquire(reader).await.map_err(|refused| Err(ReadError::Refused(refused))) };
        self.single_flight.run((range, asker), admit, reading).await.unwrap_or(Err(ReadError::Panicked))
    }

    /// Ends a read of so many `bytes`, which a user is charged for. Who has read too much waits before the next one.
    fn release(&self, permit: ReadPermit, reader: Reader, bytes: usize) {
        let rate = match reader {
            Reader::User(user) => self.rates.of(user),
            Reader::LookUp(_) | Reader::Followers(_) => None,
        };
        permit.release_after(rate.and_then(|rate| {
            let now = Instant::now();
            rate.charge(bytes, now);
            rate.delay(now)
        }));
    }

    /// At most `limit` replies above `after` to the message `to` of `room`, the oldest first, and whether there may be more: `None`
    /// if the room has no such message, or is gone or closed to `user`.
    pub async fn replies(
        &self,
        room: &Room,
        user: UserId,
        to: MessageId,
        (after, limit): (Seq, u32),
    ) -> Result<Option<(Page, bool)>, ReadError> {
        let reader = Reader::User(user);
        let permit = self.read_queue.acquire(reader).await.map_err(ReadError::Refused)?;
        let read = self.store.replies((room.id, to), user, after, limit).await;
        let read = read.map_err(|error| ReadError::Store(Arc::new(error)))?;
        let page = read.map(|replies| {
            let bytes = replies.iter().map(|message| message.text.len()).sum();
            let page = block_in_place_if_large(bytes, || Page::oldest_first(&room.name, &replies));
            let is_full = replies.len() >= limit as usize || (page.count as usize) < replies.len();
            (page, is_full)
        });
        self.release(permit, reader, page.as_ref().map_or(0, |(page, _)| page.json.len()));
        Ok(page)
    }

    /// Searches messages: `None` if the room that is named is gone, or closed to the user.
    pub async fn search(&self, search: &Search) -> Result<Option<SearchPage>, ReadError> {
        let reader = Reader::User(search.user);
        let permit = self.read_queue.acquire(reader).await.map_err(ReadError::Refused)?;
        let found = self.store.search(search).await.map_err(|error| match error {
            SearchError::TooSlow => ReadError::TooSlow,
            SearchError::Store(error) => ReadError::Store(Arc::new(error)),
        })?;
        self.release(permit, reader, found.as_ref().map_or(0, |page| page.bytes_read));
        Ok(found)
    }

    /// The newest messages of each of `rooms`, at most `each`, ascending by seq. `user` may read them all.
    pub async fn newest(
        &self,
        user: UserId,
        rooms: &[RoomId],
        each: u32,
    ) -> Result<HashMap<RoomId, Vec<StoredMessage>>, ReadError> {
        let reader = Reader::User(user);
        let permit = self.read_queue.acquire(reader).await.map_err(ReadError::Refused)?;
        let newest = self.store.newest_messages(rooms, each).await;
        let newest = newest.map_err(|error| ReadError::Store(Arc::new(error)))?;
        let bytes = newest.values().flatten().map(|message| message.text.len()).sum();
        self.release(permit, reader, bytes);
        Ok(newest)
    }

    /// The `count` entries of a room's log that follow `after`, or those of them that are there. `user` may read them.
    pub async fn entries_after(
        &self,
        user: UserId,
        room: RoomId,
        after: Seq,
        count: u32,
    ) -> Result<Vec<RoomEntry>, ReadError> {
        let reader = Reader::User(user);
        let permit = self.read_queue.acquire(reader).await.map_err(ReadError::Refused)?;
        let entries = self.store.entries_after(room, after, count).await?;
        let text = |entry: &RoomEntry| match entry {
            RoomEntry::Message(message) => message.text.len(),
            RoomEntry::Change(_) => 0,
        };
        let bytes = entries.iter().map(text).sum();
        self.release(permit, reader, bytes);
        Ok(entries)
    }

    async fn load_page(&self, room: &Room, range: PageRange, member: Option<UserId>) -> PageResult {
        let cached = self.cache.get(&range);
        let known = cached.as_ref().map(|cached| cached.known.clone());
        let reading = self.store.history_page(range.room, member, range.window, range.limit, known);
        let Some(HistoryPage { head, messages }) = reading.await.map_err(|error| ReadError::Store(Arc::new(error)))?
        else {
            return Ok(None);
        };
        let page = match (messages, cached) {
            (None, Some(cached)) => cached.page,
            (messages, _) => {
                let messages = messages.unwrap_or_default();
                let bytes = messages.iter().map(|message| message.text.len()).sum();
                let page = Arc::new(block_in_place_if_large(bytes, || Page::of(&room.name, &messages, range.window)));
                if let Some(heads) = heads_of(range, head.seq, &page) {
                    let (page, changed) = (Arc::clone(&page), head.changed);
                    let known = KnownPage { heads, changed };
                    self.cache.insert(range, CachedPage { page, known });
                }
                page
            }
        };
        Ok(Some((head.seq, page)))
    }
}

/// The heads at which history has this page of `range`, which was read at `head`, as long as no message is altered: from that one
/// on for ever, once no later message can be in it. `None` if that is not known.
fn heads_of(range: PageRange, head: Seq, page: &Page) -> Option<RangeInclusive<Seq>> {
    let is_over = match range.window {
        Window::Before(before) | Window::Between(_, before) => before <= head.next(),
        Window::After(_) => page.count >= range.limit,
        // Its message may be stored at any time, and need not move the head; or its end depends on two directions.
        Window::Only(_) | Window::Around(_) => return None,
    };
    Some(head..=if is_over { Seq(i64::MAX) } else { head })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use bytes::Bytes;

    use super::*;
    use crate::encoding::Packed;
    use crate::live::test_fixture::fixture;

    /// Long enough for a read of a few messages, and much shorter than what the reader below has to wait.
    const SOON: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn a_user_who_has_read_too_much_delays_only_themselves() {
        let fixture = fixture().await;
        let room = Arc::new(fixture.room("lobby").await);
        fixture.store_silently(room.id, 300).await;
        // 2 KiB at once, and then a page of fifty messages in some seven seconds.
        let history_pages = HistoryPages::new(fixture.store.clone(), ReadQueue::default(), HistoryRates::new(1));
        let read = async |user, window| history_pages.page(&room, UserId(user), window, 50).await;
        for before in [51, 101, 151] {
            let page = read(1, Window::Before(Seq(before))).await.unwrap().unwrap().1;
            assert!(page.json.len() > 7_000, "{}", page.json.len());
        }
        let held_up: Vec<_> = (0..8).map(|_| Box::pin(read(1, Window::Before(Seq(201))))).collect();
        let mut held_up = futures_util::future::join_all(held_up);
        assert!((&mut held_up).now_or_never().is_none());
        // The very page that the user waits for, read by another user, and a look-up of the first one.
        assert!(timeout(SOON, read(2, Window::Before(Seq(201)))).await.unwrap().is_ok());
        let message = Window::Only(shared::domain::MessageId::fresh());
        assert!(timeout(SOON, read(1, message)).await.unwrap().is_ok());
        assert!((&mut held_up).now_or_never().is_none(), "it was read meanwhile");
    }

    #[test]
    fn a_page_is_final_once_nothing_can_be_added() {
        let heads = |window, seqs: Option<(i64, i64)>| {
            let range = PageRange {
                room: RoomId(1),
                window,
                limit: 10,
            };
            let page = Page {
                json: Bytes::new(),
                packed: Packed::default(),
                count: seqs.map_or(0, |(first, last)| u32::try_from(last - first + 1).unwrap()),
                seqs: seqs.map(|(first, last)| (Seq(first), Seq(last))),
            };
            heads_of(range, Seq(100), &page)
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
