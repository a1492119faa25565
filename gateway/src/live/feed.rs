//! The last events of one room as finished frames, in their order and without a hole.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use shared::domain::{Epoch, Partition, RoomId, Seq, StoredMessage};
use shared::storage::Room;
use tokio::sync::watch;

use super::frame;

/// Frames a feed keeps. A reader that falls further behind reads history instead.
const RING_FRAMES: usize = 1_024;

/// Bytes after which a piece for a reader is not made longer: what a client that reads nothing holds at most, beside
/// what lies in the kernel.
pub const PIECE_BYTES: usize = 32 * 1024;

/// Bytes a feed keeps, the newest frame aside.
const RING_BYTES: usize = 1024 * 1024;

/// One room as this process follows it.
pub struct Feed {
    /// The room.
    pub room: RoomId,
    /// Its name.
    pub name: String,
    /// The epoch of its cursors.
    pub epoch: Epoch,
    /// The partition its messages travel through.
    pub partition: Partition,
    ring: Mutex<Ring>,
    head: watch::Sender<Seq>,
}

#[derive(Default)]
struct Ring {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The last seq taken, kept or not; `None` until the feed was started.
    head: Option<Seq>,
    /// The largest seq heard of, taken or not.
    heard: Seq,
    /// The piece joined last, with the cursor, head and count it is for: readers at the same place share it.
    joined: Option<((Seq, Seq, usize), Bytes, Seq)>,
}

/// What lies behind a reader's position.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Nothing yet.
    UpToDate,
    /// These frames, up to and with the seq.
    Frames(Bytes, Seq),
    /// More than the feed keeps: the reader must read history.
    Behind,
}

impl Feed {
    /// A feed that takes nothing until it is started.
    #[must_use]
    pub fn new(room: &Room, epoch: Epoch, partition: Partition) -> Self {
        Self {
            room: room.id,
            name: room.name.clone(),
            epoch,
            partition,
            ring: Mutex::default(),
            head: watch::Sender::new(Seq::ZERO),
        }
    }

    /// Starts the feed at `head`, the room's last seq read after the subscription stood.
    pub fn start(&self, head: Seq) {
        let mut ring = self.ring();
        if ring.head.is_none() {
            ring.head = Some(head);
            ring.heard = ring.heard.max(head);
            self.head.send_replace(head);
        }
    }

    /// The last seq a reader can get from the feed.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.ring().head.unwrap_or_default()
    }

    /// Notes that the room has messages up to `seq`. True if some of them are missing here.
    pub fn hear_of(&self, seq: Seq) -> bool {
        let mut ring = self.ring();
        ring.heard = ring.heard.max(seq);
        ring.is_missing_some()
    }

    /// The largest seq heard of.
    #[must_use]
    pub fn heard(&self) -> Seq {
        self.ring().heard
    }

    /// Forgets that `heard` was heard of, unless more was since: history does not have it.
    pub fn forget(&self, heard: Seq) {
        let mut ring = self.ring();
        if ring.heard == heard {
            ring.heard = ring.head.unwrap_or_default();
        }
    }

    /// True if some messages that were heard of are missing here.
    #[must_use]
    pub fn is_missing_some(&self) -> bool {
        self.ring().is_missing_some()
    }

    /// Takes those of `messages` (ascending) that directly follow what is there and wakes the readers.
    /// True if others are missing before them, or after them as far as was heard.
    pub fn take(&self, messages: &[StoredMessage]) -> bool {
        let mut ring = self.ring();
        if let Some(last) = messages.last() {
            ring.heard = ring.heard.max(last.seq);
        }
        let Some(mut head) = ring.head else {
            return false;
        };
        let before = head;
        for message in messages {
            if message.seq == head.next() {
                ring.push(frame::message(&self.name, self.epoch, message));
                head = message.seq;
            }
        }
        ring.head = Some(head);
        let missing = ring.is_missing_some();
        drop(ring);
        if head != before {
            self.head.send_replace(head);
        }
        missing
    }

    /// What follows `cursor`, in one piece of at most `limit` frames and not many more than [`PIECE_BYTES`].
    #[must_use]
    pub fn read_after(&self, cursor: Seq, limit: usize) -> Read {
        let mut ring = self.ring();
        let head = ring.head.unwrap_or_default();
        // Seqs are dense: the distance to the head says how many frames from the end of the ring are wanted.
        let Ok(wanted) = usize::try_from(head.0 - cursor.0) else {
            return Read::UpToDate;
        };
        let Some(from) = ring.frames.len().checked_sub(wanted) else {
            return Read::Behind;
        };
        match wanted.min(limit) {
            0 => Read::UpToDate,
            1 => Read::Frames(ring.frames[from].clone(), cursor.next()),
            count => ring.join(cursor, from, count),
        }
    }

    /// Bytes that the feed keeps for its readers.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let ring = self.ring();
        ring.bytes + ring.joined.as_ref().map_or(0, |(_, frames, _)| frames.len())
    }

    /// Gives up the oldest frames until `most` bytes are kept at most, the newest frame aside.
    pub fn keep_bytes(&self, most: usize) {
        let mut ring = self.ring();
        ring.joined = None;
        ring.cut(most);
        ring.frames.shrink_to_fit();
    }

    /// Wakes whoever holds it when the head moves.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic while the lock was held cannot leave the ring half changed in a way that breaks its order.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        self.cut(RING_BYTES);
    }

    fn cut(&mut self, most_bytes: usize) {
        while self.frames.len() > RING_FRAMES || (self.bytes > most_bytes && self.frames.len() > 1) {
            if let Some(oldest) = self.frames.pop_front() {
                self.bytes -= oldest.len();
            }
        }
    }

    /// The `count` frames behind `cursor`, the first at place `from`, or fewer if they are large.
    fn join(&mut self, cursor: Seq, from: usize, count: usize) -> Read {
        let place = (cursor, self.head.unwrap_or_default(), count);
        if let Some((known, frames, last)) = &self.joined
            && *known == place
        {
            return Read::Frames(frames.clone(), *last);
        }
        let mut joined = BytesMut::new();
        let mut last = cursor;
        for frame in self.frames.range(from..from + count) {
            joined.extend_from_slice(frame);
            last = last.next();
            if joined.len() >= PIECE_BYTES {
                break;
            }
        }
        let frames = joined.freeze();
        self.joined = Some((place, frames.clone(), last));
        Read::Frames(frames, last)
    }

    fn is_missing_some(&self) -> bool {
        self.head.is_some_and(|head| head < self.heard)
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::{MessageId, Timestamp, UserId};

    use super::*;

    fn feed() -> Feed {
        let room = Room::for_tests(RoomId(1), "lobby", UserId(1));
        Feed::new(&room, Epoch(9), Partition(0))
    }

    fn messages(seqs: std::ops::RangeInclusive<i64>) -> Vec<StoredMessage> {
        let message = |seq| StoredMessage {
            seq: Seq(seq),
            id: MessageId::fresh(),
            username: "ann".to_owned(),
            kind: "MESSAGE".to_owned(),
            text: format!("message {seq}"),
            created_on: Timestamp(0),
        };
        seqs.map(message).collect()
    }

    /// The seqs in what a reader at `cursor` gets.
    fn read(feed: &Feed, cursor: i64) -> Vec<i64> {
        match feed.read_after(Seq(cursor), usize::MAX) {
            Read::Frames(frames, last) => {
                let text = String::from_utf8(frames.to_vec()).unwrap();
                let ids = text.lines().filter_map(|line| line.strip_prefix("id: 9-"));
                let seqs: Vec<i64> = ids.map(|id| id.parse().unwrap()).collect();
                assert_eq!(seqs.last(), Some(&last.0));
                seqs
            }
            Read::UpToDate => vec![],
            Read::Behind => vec![-1],
        }
    }

    #[test]
    fn a_reader_gets_all_after_its_cursor_in_one_piece() {
        let feed = feed();
        feed.start(Seq(5));
        assert!(!feed.take(&messages(6..=8)));
        assert_eq!(read(&feed, 5), [6, 7, 8]);
        assert_eq!(read(&feed, 7), [8]);
        assert!(read(&feed, 8).is_empty());
        assert_eq!(read(&feed, 4), [-1]);
        assert!(matches!(feed.read_after(Seq(5), 2), Read::Frames(_, Seq(7))));
    }

    #[test]
    fn a_cursor_ahead_of_the_feed_waits() {
        let feed = feed();
        feed.start(Seq(5));
        assert!(read(&feed, 9).is_empty());
    }

    #[test]
    fn repetitions_are_dropped_and_gaps_are_told() {
        let feed = feed();
        feed.start(Seq(5));
        assert!(!feed.take(&messages(4..=6)));
        assert!(feed.take(&messages(8..=9)));
        assert_eq!(read(&feed, 5), [6]);
        assert!(!feed.take(&messages(7..=9)));
        assert_eq!(read(&feed, 5), [6, 7, 8, 9]);
    }

    #[test]
    fn what_is_heard_before_the_start_is_not_forgotten() {
        let feed = feed();
        assert!(!feed.take(&messages(6..=6)));
        feed.start(Seq(5));
        assert!(feed.hear_of(Seq(0)));
        assert!(read(&feed, 5).is_empty());
    }

    #[test]
    fn the_ring_is_bounded_in_frames_and_bytes() {
        let feed = feed();
        feed.start(Seq(0));
        feed.take(&messages(1..=2_000));
        assert_eq!(read(&feed, 2_000 - 1_024)[0], 2_000 - 1_023);
        assert_eq!(read(&feed, 2_000 - 1_025), [-1]);
        let mut large = messages(2_001..=2_100);
        for message in &mut large {
            message.text = "x".repeat(16_000);
        }
        feed.take(&large);
        assert_eq!(read(&feed, 2_100 - 60)[0], 2_100 - 59);
        assert_eq!(read(&feed, 2_000), [-1]);
    }

    #[test]
    fn a_piece_is_bounded_and_shared_by_readers_at_the_same_place() {
        let feed = feed();
        feed.start(Seq(0));
        feed.take(&messages(1..=1_000));
        let piece = |cursor| match feed.read_after(Seq(cursor), usize::MAX) {
            Read::Frames(frames, last) => (frames, last),
            other => panic!("{other:?}"),
        };
        let (first, last) = piece(0);
        assert!((PIECE_BYTES..PIECE_BYTES + 1_000).contains(&first.len()), "{}", first.len());
        assert_eq!(piece(0).0.as_ptr(), first.as_ptr());
        assert_eq!(read(&feed, last.0)[0], last.0 + 1);
        assert_ne!(piece(1).0.as_ptr(), first.as_ptr());
        feed.take(&messages(1_001..=1_001));
        assert_eq!(piece(999).1, Seq(1_001));
    }
}
