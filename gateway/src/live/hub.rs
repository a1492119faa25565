//! Hub: all feeds of this process.
//!
//! The first reader of a room opens its feed, which subscribes to the events of the room (module `opening`). Messages that no
//! event brought are found in SQL (module `comparison`) and read from there (module `repair`). A feed that nobody reads is
//! closed after a while. Up to which position all open feeds know what is stored is known to module `horizon`.
//!
//! Lock order: the map of feeds, then the desired channels or the cursors. No feed is locked while the
//! map is.

mod comparison;
mod feed_entry;
mod head_cursors;
mod horizon;
mod opening;
mod repair;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use shared::bus::{KeySpace, RoomEvent, TypingNotice};
use shared::domain::{Epoch, RoomId, Seq};
use shared::storage::{Installation, Room, Store, StoreError};
use tokio::time::sleep_until;
use tracing::{debug, warn};

use self::feed_entry::FeedEntry;
pub use self::feed_entry::OpenFeed;
use self::head_cursors::HeadCursors;
pub(super) use self::horizon::Horizon;
use self::horizon::HorizonClock;
pub use self::horizon::HorizonUse;
pub use self::opening::OpenError;
use self::opening::Starts;
use super::damage::DamageReports;
use super::feed::{Feed, Gap};
use super::frame::Framing;
use super::past_seqs::PastSeqs;
use super::replay_pages::{ReplayError, ReplayPages};
use super::resync_queue::ResyncQueue;
use super::ring_budget::{self, RINGS_BYTES};
use super::subscriber::Subscriber;
use crate::history::{ReadQueue, Reader};

/// How long a feed stays open without readers. A phone that changes networks is back before.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The feeds of this process. Clones share them.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    installation: Installation,
    /// The epoch of history: that of the installation when the process started, or a later one.
    epoch: AtomicU64,
    keys: KeySpace,
    subscriber: Subscriber,
    feeds: Mutex<HashMap<RoomId, Arc<FeedEntry>>>,
    starts: Starts,
    cursors: HeadCursors,
    horizon: HorizonClock,
    past_seqs: PastSeqs,
    damage: DamageReports,
    pages: ReplayPages,
    read_queue: ReadQueue,
    resync_queue: ResyncQueue,
}

impl Hub {
    /// A hub without feeds.
    #[must_use]
    pub fn new(store: Store, installation: Installation, subscriber: Subscriber, read_queue: ReadQueue) -> Self {
        let damage = DamageReports::default();
        let shared = Arc::new_cyclic(|shared| Shared {
            past_seqs: PastSeqs::new(store.clone()),
            store,
            epoch: AtomicU64::new(installation.epoch.0),
            keys: installation.key_space(),
            installation,
            subscriber,
            feeds: Mutex::default(),
            starts: opening::starts(shared.clone()),
            cursors: HeadCursors::default(),
            horizon: HorizonClock::default(),
            pages: ReplayPages::new(damage.clone()),
            damage,
            read_queue,
            resync_queue: ResyncQueue::default(),
        });
        Self { shared }
    }

    fn entry(&self, room: &Room) -> Arc<FeedEntry> {
        let epoch = self.epoch();
        let partition = self.shared.installation.partition_of(room.id);
        Arc::new(FeedEntry::new(Feed::new(room, room.epoch(epoch), partition)))
    }

    /// The epoch of history now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.shared.epoch.load(Ordering::Acquire))
    }

    /// What the last entries of rooms were at earlier positions.
    pub(super) fn past_seqs(&self) -> &PastSeqs {
        &self.shared.past_seqs
    }

    /// Closes every feed: from now on feeds are opened in `epoch`. The streams that read the old ones must be ended.
    pub fn begin_epoch(&self, epoch: Epoch) {
        let mut feeds = self.shared.feeds.lock();
        self.shared.epoch.store(epoch.0, Ordering::Release);
        self.shared.cursors.reset();
        self.shared.horizon.reset();
        for (room, entry) in feeds.drain() {
            // Under the lock: whoever opens the room again subscribes after this.
            self.shared.subscriber.unsubscribe(&self.shared.keys.room_channel(entry.feed.partition, room));
        }
    }

    /// Appends the entries of an event that came on the channel of `room`.
    ///
    /// The entries are not compared with SQL: a worker publishes only what it has committed, and a committed entry keeps its
    /// seq. So a late event, from a worker that was paused after its commit and has lost the partition since, says
    /// what history says too; the feed drops it as a repetition.
    pub fn on_room_event(&self, room: RoomId, payload: &[u8]) {
        let Some(entry) = self.shared.feeds.lock().get(&room).cloned() else {
            return;
        };
        match RoomEvent::decode(payload, &self.shared.keys) {
            Ok(RoomEvent {
                room: of,
                typing: Some(notice),
                ..
            }) if of == room => note_typing(&entry, notice),
            Ok(event) if event.room == room => {
                if entry.feed.append(&event.entries) {
                    self.repair(&entry);
                }
            }
            Ok(_) => warn!(room.id = room.0, "an event of another room came on the channel of room {}", room.0),
            // The messages it may have held are found when heads are compared.
            Err(error) => error.report("room event"),
        }
    }

    /// Notes that SQL has messages of a feed up to `head`, and reads those that are missing.
    fn note_stored_head(&self, entry: &Arc<FeedEntry>, head: Seq) {
        if entry.feed.note_stored_head(head) {
            self.repair(entry);
        }
    }

    /// Reads what a feed is missing, unless that is being read.
    fn repair(&self, entry: &Arc<FeedEntry>) {
        repair::repair(&self.shared.store, &self.shared.damage, entry);
    }

    /// The last seq of the room by SQL, for a reader whose position is ahead of the feed. The feed catches up.
    pub async fn refresh(&self, open: &OpenFeed) -> Result<Seq, StoreError> {
        let head = self.shared.store.head(open.room).await?.seq;
        self.note_stored_head(&open.0, head);
        Ok(head)
    }

    /// What follows `cursor` in the `gap` before the frames that the feed keeps, as one segment of at most `limit` messages, and
    /// the seq of the last one. It is read from SQL once for all who need it.
    pub(super) async fn read_behind(
        &self,
        feed: &Feed,
        (cursor, gap): (Seq, Gap),
        (limit, framing): (usize, Framing),
    ) -> Result<(Bytes, Seq), Arc<ReplayError>> {
        let (shared, room) = (&self.shared, feed.room);
        let read = |after, count| async move {
            let _permit = shared.read_queue.acquire(Reader::Followers(room)).await.map_err(ReplayError::Refused)?;
            Ok(shared.store.entries_after(room, after, count).await?)
        };
        self.shared.pages.read_behind(feed, (cursor, gap), (limit, framing), read).await
    }

    /// The same without waiting: what a cached page has, as one segment; `None` if SQL must be read.
    pub(super) fn cached_behind(&self, feed: &Feed, position: (Seq, Gap), framing: Framing) -> Option<Bytes> {
        self.shared.pages.cached_behind(feed, position, framing)
    }

    /// Reports to the operator that history lacks `seq` of `room`, and perhaps others after it.
    pub fn report_damage(&self, room: RoomId, seq: Seq) {
        self.shared.damage.report(room, seq);
    }

    /// Tells the readers of `room` that it was deleted.
    pub fn note_room_deleted(&self, room: RoomId) {
        let entry = self.shared.feeds.lock().get(&room).cloned();
        if let Some(entry) = entry {
            entry.feed.note_deleted();
        }
    }

    /// Drops what this process keeps of `room` and may have the text of a message that was deleted.
    pub fn forget_deleted(&self, room: RoomId) {
        self.shared.pages.forget_room(room);
        let entry = self.shared.feeds.lock().get(&room).cloned();
        if let Some(entry) = entry {
            entry.feed.drop_frames();
        }
    }

    /// Closes feeds that nobody reads and enforces the budget of the rings, in one pass over all feeds: they may be tens of
    /// thousands, most of which are silent. Returns those that are missing something.
    fn tend(&self) -> Vec<Arc<FeedEntry>> {
        let Shared { subscriber, keys, .. } = &*self.shared;
        let (mut open, mut with_frames, mut with_gaps) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut feeds = self.shared.feeds.lock();
        feeds.retain(|room, entry| {
            let idle = entry.is_idle_for(IDLE_TIME);
            if idle {
                // Under the lock: whoever opens the room again subscribes after this.
                subscriber.unsubscribe(&keys.room_channel(entry.feed.partition, *room));
                debug!(room.id = room.0, "room {} has no readers here", room.0);
            } else {
                open.insert(entry.feed.partition);
                if entry.feed.has_gap() {
                    with_gaps.push(Arc::clone(entry));
                }
                if entry.feed.has_appended() {
                    // Collected first, since no feed is locked while the map is.
                    with_frames.push(Arc::clone(entry));
                }
            }
            !idle
        });
        // Under the lock: a feed that is opened later is in the map before its partition gets a cursor.
        self.shared.cursors.retain(&open);
        drop(feeds);
        ring_budget::enforce(with_frames.iter().map(|entry| &entry.feed), RINGS_BYTES);
        with_gaps
    }
}

/// Notes who is typing, and wakes the readers of the room when it is time for that.
fn note_typing(entry: &Arc<FeedEntry>, notice: TypingNotice) {
    let now = Instant::now();
    let Some(wake_at) = entry.feed.note_typist(notice, now) else {
        return;
    };
    if wake_at <= now {
        entry.feed.wake();
        return;
    }
    let entry = Arc::clone(entry);
    // One task a room at most: until it has woken them no other wake-up is planned.
    tokio::spawn(async move {
        sleep_until(wake_at.into()).await;
        entry.feed.wake();
    });
}
