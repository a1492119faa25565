//! Feed of one room: the latest entries of its log as finished frames, in order and without a gap.
//!
//! A feed appends the entry after its head and nothing else. So readers never see a gap, whatever events bring: what is
//! missing is read from SQL and appended before what comes later.

mod frame_ring;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use shared::domain::{Change, Epoch, Partition, RoomEntry, RoomId, Seq};
use shared::storage::{Room, RoomHead};
use tokio::sync::watch;

use self::frame_ring::FrameRing;
use super::frame::{self, Framing};
use crate::fanout::TopicWaker;

/// One room as this process follows it.
pub struct Feed {
    /// The room.
    pub room: RoomId,
    /// Its name.
    pub name: String,
    /// The epoch of its cursors.
    pub epoch: Epoch,
    /// The partition of the accept log that its messages come through.
    pub partition: Partition,
    /// The room's head when the feed was started.
    start: OnceLock<Seq>,
    ring: Mutex<FrameRing>,
    /// The head, for tasks that wait for it.
    head: watch::Sender<Seq>,
    /// The threads of the fan-out that have readers of this room.
    wakers: Mutex<Vec<Weak<TopicWaker>>>,
}

/// What follows the position of a reader.
#[derive(Debug, PartialEq, Eq)]
pub enum FeedRead {
    /// Nothing yet: the reader is up to date.
    UpToDate,
    /// These frames, of the messages up to this seq.
    Frames(Bytes, Seq),
    /// More than the feed keeps: the reader must read history up to where the ring begins.
    Behind(Gap),
}

/// The messages that the feed has appended and no longer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last seq before the frames that it keeps.
    pub floor: Seq,
    /// The last seq that it has appended.
    pub head: Seq,
}

impl Feed {
    /// A feed that appends nothing until it is started.
    #[must_use]
    pub fn new(room: &Room, epoch: Epoch, partition: Partition) -> Self {
        Self {
            room: room.id,
            name: room.name.clone(),
            epoch,
            partition,
            start: OnceLock::new(),
            ring: Mutex::default(),
            head: watch::Sender::new(Seq::ZERO),
            wakers: Mutex::default(),
        }
    }

    /// Starts the feed at `head`, which was read after the subscription was confirmed.
    pub fn start(&self, RoomHead { seq: head, changed }: RoomHead) {
        let mut ring = self.ring();
        if ring.head.is_none() {
            ring.changed = changed;
            let _ = self.start.set(head);
            ring.head = Some(head);
            ring.known_head = ring.known_head.max(head);
            self.head.send_replace(head);
        }
    }

    /// The room's head when the feed was started. Messages up to it were never in the feed.
    #[must_use]
    pub fn started_at(&self) -> Seq {
        self.start.get().copied().unwrap_or_default()
    }

    /// Wakes `waker` from now on whenever the head moves, for as long as somebody holds it.
    pub fn add_waker(&self, waker: &Arc<TopicWaker>) {
        let mut wakers = self.wakers();
        wakers.retain(|waker| waker.strong_count() > 0);
        wakers.push(Arc::downgrade(waker));
    }

    /// The last seq a reader can get from the feed.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.ring().head.unwrap_or_default()
    }

    /// Notes that SQL has messages of the room up to `seq`. True if some of them are missing here.
    pub fn note_stored_head(&self, seq: Seq) -> bool {
        let mut ring = self.ring();
        ring.known_head = ring.known_head.max(seq);
        ring.has_gap()
    }

    /// The largest seq that the room is known to have.
    #[must_use]
    pub fn known_head(&self) -> Seq {
        self.ring().known_head
    }

    /// Takes back that the room has messages up to `known`, unless more is known since: history does not have them.
    pub fn retract_known_head(&self, known: Seq) {
        let mut ring = self.ring();
        if ring.known_head == known {
            ring.known_head = ring.head.unwrap_or_default();
        }
    }

    /// True if some messages that the room is known to have are missing here.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.ring().has_gap()
    }

    /// The last entry appended that altered a message; what was read of history before may be out of date.
    #[must_use]
    pub fn changed(&self) -> Seq {
        self.ring().changed
    }

    /// Appends those of `entries` (ascending) that directly follow the head, and wakes the readers. True if entries are
    /// missing before them, or after them as far as the room is known.
    ///
    /// An edit or a deletion drops all frames before its own: some of them have the text that is gone. Readers that are behind
    /// read history, which does not have it.
    pub fn append(&self, entries: &[RoomEntry]) -> bool {
        let mut ring = self.ring();
        if let Some(last) = entries.last() {
            ring.known_head = ring.known_head.max(last.seq());
        }
        let Some(before) = ring.head else {
            return false;
        };
        for entry in entries {
            if ring.head.map(Seq::next) != Some(entry.seq()) {
                continue;
            }
            if let RoomEntry::Change(stored) = entry {
                if stored.change.alters_message() {
                    ring.changed = stored.seq;
                }
                match stored.change {
                    Change::Edit { .. } | Change::Delete { .. } => ring.drop_all(),
                    Change::Reaction { .. } | Change::Member { .. } | Change::Room(_) => {}
                }
            }
            ring.push(frame::entry(&self.name, self.epoch, entry));
        }
        let (head, missing) = (ring.head.unwrap_or(before), ring.has_gap());
        drop(ring);
        if head != before {
            self.wake_readers(head);
        }
        missing
    }

    /// Drops all frames: readers that have not got them read history.
    pub fn drop_frames(&self) {
        self.ring().drop_all();
    }

    /// Goes on after `head` without the messages before it: history does not have them. Readers that have not reached them find
    /// out when they read history.
    pub fn skip_to(&self, head: Seq) {
        self.ring().skip_to(head);
        self.wake_readers(head);
    }

    fn wake_readers(&self, head: Seq) {
        self.head.send_replace(head);
        self.wakers().iter().filter_map(Weak::upgrade).for_each(|waker| waker.wake());
    }

    /// What follows `cursor`, as one segment of at most `limit` frames.
    #[must_use]
    pub fn read_after(&self, cursor: Seq, limit: usize, framing: Framing) -> FeedRead {
        self.ring().read_after(cursor, limit, framing)
    }

    /// Bytes that the ring keeps for readers.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.ring().kept_bytes()
    }

    /// Drops the oldest frames until `most` bytes are kept at most. The newest one is kept all the same, unless it is in a block.
    pub fn shrink_to(&self, most: usize) {
        self.ring().shrink(most);
    }

    /// A receiver that is woken when the head moves.
    #[must_use]
    pub fn watch_head(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Weak<TopicWaker>>> {
        self.wakers.lock()
    }

    fn ring(&self) -> MutexGuard<'_, FrameRing> {
        self.ring.lock()
    }
}
