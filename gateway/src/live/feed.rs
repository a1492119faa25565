//! Feed of one room: the latest messages as finished frames, in order and without a gap.
//!
//! A feed appends the message after its head and nothing else. So readers never see a gap, whatever events bring: what is
//! missing is read from SQL and appended before what comes later.

mod frame_ring;

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use shared::domain::{Epoch, Partition, RoomId, Seq, StoredMessage};
use shared::storage::Room;
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

    /// Starts the feed at `head`, the last seq of the room, which was read after the subscription was confirmed.
    pub fn start(&self, head: Seq) {
        let mut ring = self.ring();
        if ring.head.is_none() {
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

    /// Appends those of `messages` (ascending) that directly follow the head, and wakes the readers. True if messages are
    /// missing before them, or after them as far as the room is known.
    pub fn append(&self, messages: &[StoredMessage]) -> bool {
        let mut ring = self.ring();
        if let Some(last) = messages.last() {
            ring.known_head = ring.known_head.max(last.seq);
        }
        let Some(before) = ring.head else {
            return false;
        };
        for message in messages {
            if ring.head.map(Seq::next) == Some(message.seq) {
                ring.push(frame::message(&self.name, self.epoch, message));
            }
        }
        let (head, missing) = (ring.head.unwrap_or(before), ring.has_gap());
        drop(ring);
        if head != before {
            self.wake_readers(head);
        }
        missing
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

#[cfg(test)]
mod tests {
    use shared::domain::{MessageId, Timestamp, UserId};

    use super::*;
    use crate::live::block::SEGMENT_BYTES;

    const LIBRARY: Framing = Framing::Library;

    fn feed() -> Feed {
        let room = Room::for_tests(RoomId(1), "lobby", UserId(1));
        Feed::new(&room, Epoch(9), Partition(0))
    }

    fn messages(seqs: std::ops::RangeInclusive<i64>) -> Vec<StoredMessage> {
        let message = |seq| StoredMessage {
            seq: Seq(seq),
            id: MessageId::fresh(),
            username: "ann".to_owned(),
            public_id: "ann".to_owned(),
            kind: "MESSAGE".to_owned(),
            text: format!("message {seq}"),
            created_on: Timestamp(0),
        };
        seqs.map(message).collect()
    }

    /// The seqs in what a reader at `cursor` gets.
    fn read(feed: &Feed, cursor: i64) -> Vec<i64> {
        match feed.read_after(Seq(cursor), usize::MAX, LIBRARY) {
            FeedRead::Frames(frames, last) => {
                let text = String::from_utf8(frames.to_vec()).unwrap();
                let ids = text.lines().filter_map(|line| line.strip_prefix("id: 9-"));
                let seqs: Vec<i64> = ids.map(|id| id.parse().unwrap()).collect();
                assert_eq!(seqs.last(), Some(&last.0));
                seqs
            }
            FeedRead::UpToDate => vec![],
            FeedRead::Behind(_) => vec![-1],
        }
    }

    #[test]
    fn a_reader_gets_all_after_its_cursor_at_once() {
        let feed = feed();
        feed.start(Seq(5));
        assert!(!feed.append(&messages(6..=8)));
        assert_eq!(read(&feed, 5), [6, 7, 8]);
        assert_eq!(read(&feed, 7), [8]);
        assert!(read(&feed, 8).is_empty());
        let gap = Gap {
            floor: Seq(5),
            head: Seq(8),
        };
        assert_eq!(feed.read_after(Seq(1), usize::MAX, LIBRARY), FeedRead::Behind(gap));
        assert!(matches!(feed.read_after(Seq(5), 2, LIBRARY), FeedRead::Frames(_, Seq(7))));
    }

    #[test]
    fn a_cursor_ahead_of_the_feed_waits() {
        let feed = feed();
        feed.start(Seq(5));
        assert!(read(&feed, 9).is_empty());
    }

    #[test]
    fn repetitions_are_dropped_and_gaps_reported() {
        let feed = feed();
        feed.start(Seq(5));
        assert!(!feed.append(&messages(4..=6)));
        assert!(feed.append(&messages(8..=9)));
        assert_eq!(read(&feed, 5), [6]);
        assert!(!feed.append(&messages(7..=9)));
        assert_eq!(read(&feed, 5), [6, 7, 8, 9]);
    }

    #[test]
    fn a_message_from_before_the_start_is_not_forgotten() {
        let feed = feed();
        assert!(!feed.append(&messages(6..=6)));
        feed.start(Seq(5));
        assert!(feed.note_stored_head(Seq(0)));
        assert!(read(&feed, 5).is_empty());
    }

    #[test]
    fn the_ring_is_bounded_in_bytes() {
        let feed = feed();
        feed.start(Seq(0));
        feed.append(&messages(1..=40_000));
        assert!((3_000_000..5_000_000).contains(&feed.kept_bytes()), "{}", feed.kept_bytes());
        assert_eq!(read(&feed, 30_000)[0], 30_001);
        assert_eq!(read(&feed, 1_000), [-1]);
        let mut large = messages(40_001..=40_500);
        for message in &mut large {
            message.text = "x".repeat(16_000);
        }
        feed.append(&large);
        assert!((3_000_000..5_000_000).contains(&feed.kept_bytes()), "{}", feed.kept_bytes());
        assert_eq!(read(&feed, 40_400)[0], 40_401);
        assert_eq!(read(&feed, 40_000), [-1]);
    }

    #[test]
    fn segments_lead_from_any_position_to_the_head() {
        let feed = feed();
        feed.start(Seq(0));
        feed.append(&messages(1..=1_000));
        for start in [0, 1, 200, 255, 256, 257, 511, 700, 999] {
            let mut seqs = Vec::new();
            let mut cursor = start;
            while cursor < 1_000 {
                seqs.extend(read(&feed, cursor));
                cursor = *seqs.last().unwrap();
            }
            assert!(seqs.into_iter().eq(start + 1..=1_000), "from {start}");
        }
        assert!(matches!(feed.read_after(Seq(100), 3, LIBRARY), FeedRead::Frames(_, Seq(103))));
    }

    #[test]
    fn a_segment_is_bounded_and_shared_by_all_readers() {
        let feed = feed();
        feed.start(Seq(0));
        let mut messages = messages(1..=1_000);
        for message in &mut messages {
            message.text = "x".repeat(1_000);
        }
        feed.append(&messages);
        let segment = |cursor| match feed.read_after(Seq(cursor), usize::MAX, Framing::Chunked) {
            FeedRead::Frames(frames, last) => (frames, last),
            other => panic!("{other:?}"),
        };
        let (first, last) = segment(0);
        assert!((SEGMENT_BYTES..SEGMENT_BYTES + 2_000).contains(&first.len()), "{}", first.len());
        let (later, same) = segment(10);
        assert_eq!(last, same);
        assert!(first.as_ptr_range().contains(&later.as_ptr()));
        // The newest frames are not in a block yet: readers at the same position share what is joined for them.
        assert_eq!(segment(998).1, Seq(1_000));
        assert_eq!(segment(998).0.as_ptr(), segment(998).0.as_ptr());
    }
}
