//! Feed of one room: the latest entries of its log as finished frames, in order and without a gap.
//!
//! A feed appends the entry after its head and nothing else. So readers never see a gap, whatever events bring: what is
//! missing is read from SQL and appended before what comes later.

mod frame_ring;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use shared::bus::TypingNotice;
use shared::domain::{Change, Epoch, Partition, RoomEntry, RoomId, Seq};
use shared::storage::{Room, RoomHead};

use self::frame_ring::FrameRing;
use super::frame::Framing;
use super::room_events;
use super::typing::Typists;
use crate::fanout::{TopicWaker, TopicWakers};

/// One room as this process follows it.
pub struct Feed {
    /// The room.
    pub room: RoomId,
    /// Its name.
    pub name: Box<str>,
    /// The epoch of its cursors.
    pub epoch: Epoch,
    /// The partition of the accept log that its messages come through.
    pub partition: Partition,
    /// The room's head when the feed was started.
    start: OnceLock<Seq>,
    /// The last seq appended, kept or not. It is written under the lock of the ring, and read without: a stream of many rooms
    /// asks all their feeds.
    head: AtomicI64,
    /// The largest seq that the room is known to have, appended or not. Written and read like the head, and after it.
    known_head: AtomicI64,
    /// The room was deleted.
    is_deleted: AtomicBool,
    ring: Mutex<FrameRing>,
    /// Wakes its readers.
    wakers: TopicWakers,
    /// Who was typing lately. Most rooms have nobody.
    typists: Mutex<Option<Box<Typists>>>,
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
            name: room.name.as_str().into(),
            epoch,
            partition,
            start: OnceLock::new(),
            head: AtomicI64::new(0),
            known_head: AtomicI64::new(0),
            is_deleted: AtomicBool::new(false),
            ring: Mutex::default(),
            wakers: TopicWakers::default(),
            typists: Mutex::default(),
        }
    }

    /// Starts the feed at `head`, which was read after the subscription was confirmed.
    pub fn start(&self, RoomHead { seq: head, changed }: RoomHead) {
        let mut ring = self.ring();
        if ring.head.is_none() {
            ring.changed = changed;
            ring.head = Some(head);
            self.head.store(head.0, Ordering::Release);
            self.raise_known_head(head);
            // Last: from here on a known head above the head is a gap.
            let _ = self.start.set(head);
        }
    }

    /// The room's head when the feed was started. Messages up to it were never in the feed.
    #[must_use]
    pub fn started_at(&self) -> Seq {
        self.start.get().copied().unwrap_or_default()
    }

    /// Wakes `waker` from now on whenever the head moves, for as long as somebody holds it.
    pub fn add_waker(&self, waker: &Arc<TopicWaker>) {
        self.wakers.add(waker);
    }

    /// The last seq a reader can get from the feed. It takes no lock.
    #[must_use]
    pub fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    /// Notes that SQL has messages of the room up to `seq`. True if some of them are missing here.
    pub fn note_stored_head(&self, seq: Seq) -> bool {
        let _ring = self.ring();
        self.raise_known_head(seq);
        self.has_gap()
    }

    /// The largest seq that the room is known to have. It takes no lock.
    #[must_use]
    pub fn known_head(&self) -> Seq {
        Seq(self.known_head.load(Ordering::Acquire))
    }

    /// Takes back that the room has messages up to `known`, unless more is known since: history does not have them.
    pub fn retract_known_head(&self, known: Seq) {
        let _ring = self.ring();
        if self.known_head() == known {
            self.known_head.store(self.head().0, Ordering::Release);
        }
    }

    /// Raises the known head to `seq`. The lock of the ring must be held.
    fn raise_known_head(&self, seq: Seq) {
        if self.known_head() < seq {
            self.known_head.store(seq.0, Ordering::Release);
        }
    }

    /// True if some messages that the room is known to have are missing here. It takes no lock.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        // First what is known: what is appended after that is no gap.
        let known = self.known_head();
        self.start.get().is_some() && self.head() < known
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
        let last = entries.last().map(RoomEntry::seq).unwrap_or_default();
        let Some(before) = ring.head else {
            self.raise_known_head(last);
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
            ring.push(room_events::entry(&self.name, self.epoch, entry));
        }
        let head = ring.head.unwrap_or(before);
        self.head.store(head.0, Ordering::Release);
        self.raise_known_head(last);
        let missing = self.has_gap();
        drop(ring);
        if head != before {
            self.wakers.wake();
        }
        missing
    }

    /// Notes that the room was deleted, and wakes its readers: those of many rooms go on without it.
    pub fn note_deleted(&self) {
        self.is_deleted.store(true, Ordering::Release);
        self.wakers.wake();
    }

    /// Whether the room was deleted while the feed was open.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// Drops all frames: readers that have not got them read history.
    pub fn drop_frames(&self) {
        self.ring().drop_all();
    }

    /// Goes on after `head` without the messages before it: history does not have them. Readers that have not reached them find
    /// out when they read history.
    pub fn skip_to(&self, head: Seq) {
        let mut ring = self.ring();
        ring.skip_to(head);
        self.head.store(ring.head.unwrap_or_default().0, Ordering::Release);
        self.raise_known_head(head);
        drop(ring);
        self.wakers.wake();
    }

    /// What follows `cursor`, as one segment of at most `limit` frames. It takes no lock for a reader that is up to date.
    #[must_use]
    pub fn read_after(&self, cursor: Seq, limit: usize, framing: Framing) -> FeedRead {
        if cursor >= self.head() {
            return FeedRead::UpToDate;
        }
        self.ring().read_after(cursor, limit, framing)
    }

    /// Whether entries were appended since the feed was started: without any, it keeps no frames. It takes no lock.
    #[must_use]
    pub fn has_appended(&self) -> bool {
        self.head() > self.started_at()
    }

    /// Notes that a user types, or stopped, at `now`. Returns when the readers are to be woken, unless that is planned already.
    pub(super) fn note_typist(&self, notice: TypingNotice, now: Instant) -> Option<Instant> {
        self.typists.lock().get_or_insert_default().note(notice, now)
    }

    /// Those who were noted since `began` and lately, after the first `seen`, and how many were noted; `None` if nobody was lately.
    pub(super) fn typists_after(
        &self,
        seen: Option<u16>,
        (began, now): (Instant, Instant),
    ) -> Option<(Vec<TypingNotice>, u16)> {
        let typists = self.typists.lock();
        let typists = typists.as_ref().filter(|typists| typists.has_any(now))?;
        Some((typists.after(seen, (began, now)), typists.count()))
    }

    /// How many typists were noted, if any was lately.
    pub(super) fn typist_count(&self, now: Instant) -> Option<u16> {
        let typists = self.typists.lock();
        typists.as_ref().filter(|typists| typists.has_any(now)).map(|typists| typists.count())
    }

    /// Wakes the readers although no entry came.
    pub(super) fn wake(&self) {
        self.wakers.wake();
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

    fn ring(&self) -> MutexGuard<'_, FrameRing> {
        self.ring.lock()
    }
}
