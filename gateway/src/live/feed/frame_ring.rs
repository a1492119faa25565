//! The frames a feed keeps, and what it knows of those it does not.
//!
//! The newest frames stand alone. As soon as they make a block they are put together, so that readers that are behind, each
//! at a place of its own, get large segments that nobody copies.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::domain::Seq;

use super::{FeedRead, Gap};
use crate::live::block::{Block, SEGMENT_BYTES};
use crate::live::frame::{Frame, Framing};

/// Bytes a feed keeps, its newest frames aside: some ten thousand ordinary messages, or several seconds of the busiest room.
/// A reader that falls further behind reads history instead.
const RING_BYTES: usize = 4 * 1024 * 1024;

/// Newest frames that stand alone at most, however small they are.
const BLOCK_FRAMES: usize = 256;

/// The last frames of a room.
#[derive(Default)]
pub(super) struct FrameRing {
    blocks: VecDeque<Block>,
    /// The frames behind them.
    newest: Vec<Frame>,
    /// Bytes of both.
    bytes: usize,
    newest_bytes: usize,
    /// The last seq taken, kept or not; `None` until the feed was started.
    pub(super) head: Option<Seq>,
    /// The largest seq heard of, taken or not.
    pub(super) known_head: Seq,
    /// The segment of the newest frames joined last, by its framing: readers at the same place share it.
    joined: [Option<Joined>; Framing::COUNT],
}

/// A segment, and what it is for.
struct Joined {
    cursor: Seq,
    last: Seq,
    segment: Bytes,
}

impl FrameRing {
    /// Adds the frame behind the newest one, which becomes the head.
    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.kept_bytes();
        self.newest_bytes += frame.kept_bytes();
        self.newest.push(frame);
        self.head = self.head.map(Seq::next);
        if self.newest_bytes >= SEGMENT_BYTES || self.newest.len() >= BLOCK_FRAMES {
            self.put_together();
            self.cut(RING_BYTES);
        }
    }

    /// Gives up all frames and goes on behind `head`, if it is not there yet.
    pub(super) fn skip_to(&mut self, head: Seq) {
        if self.head.is_some_and(|before| before < head) {
            *self = Self {
                head: Some(head),
                known_head: self.known_head.max(head),
                ..Self::default()
            };
        }
    }

    fn put_together(&mut self) {
        let block = Block::of(self.before_newest(), &self.newest);
        self.bytes = self.bytes - self.newest_bytes + block.kept_bytes();
        self.blocks.push_back(block);
        self.newest.clear();
        self.newest_bytes = 0;
        self.joined = Default::default();
    }

    fn cut(&mut self, most: usize) {
        while self.bytes > most
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.bytes -= oldest.kept_bytes();
        }
    }

    /// Gives up the oldest frames until `most` bytes are kept at most. A newest frame that stands alone is kept all the same.
    pub(super) fn shrink(&mut self, most: usize) {
        self.joined = Default::default();
        self.cut(most);
        let mut surplus = self.bytes.saturating_sub(most);
        let mut count = 0;
        while surplus > 0 && count + 1 < self.newest.len() {
            surplus = surplus.saturating_sub(self.newest[count].kept_bytes());
            count += 1;
        }
        let given_up: usize = self.newest.drain(..count).map(|frame| frame.kept_bytes()).sum();
        self.bytes -= given_up;
        self.newest_bytes -= given_up;
        self.newest.shrink_to_fit();
        self.blocks.shrink_to_fit();
    }

    /// Bytes kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes + self.joined.iter().flatten().map(|joined| joined.segment.len()).sum::<usize>()
    }

    /// What follows `cursor`, in one segment of at most `limit` frames.
    pub(super) fn read_after(&mut self, cursor: Seq, limit: usize, framing: Framing) -> FeedRead {
        let head = self.head.unwrap_or_default();
        if cursor >= head || limit == 0 {
            return FeedRead::UpToDate;
        }
        let before_newest = self.before_newest();
        if cursor >= before_newest {
            return self.read_newest(cursor, cursor.since(before_newest), limit, framing);
        }
        let floor = self.blocks.front().map_or(before_newest, Block::after);
        if cursor < floor {
            return FeedRead::Behind(Gap { floor, head });
        }
        let place = self.blocks.partition_point(|block| block.after() <= cursor).saturating_sub(1);
        let (segment, last) = self.blocks[place].read_after(cursor, limit, framing);
        FeedRead::Frames(segment, last)
    }

    /// What follows `cursor` among the newest frames, the first at `from`.
    fn read_newest(&mut self, cursor: Seq, from: usize, limit: usize, framing: Framing) -> FeedRead {
        let frames = &self.newest[from..];
        let frames = &frames[..limit.min(frames.len())];
        let last = cursor.plus(frames.len());
        if let [frame] = frames {
            return FeedRead::Frames(frame.bytes(framing), last);
        }
        let joined = &mut self.joined[framing as usize];
        let known = joined.as_ref().filter(|known| (known.cursor, known.last) == (cursor, last));
        if let Some(Joined { segment, .. }) = known {
            return FeedRead::Frames(segment.clone(), last);
        }
        let (segment, _) = Block::of(cursor, frames).read_after(cursor, frames.len(), framing);
        *joined = Some(Joined {
            cursor,
            last,
            segment: segment.clone(),
        });
        FeedRead::Frames(segment, last)
    }

    /// The seq before the newest frames.
    fn before_newest(&self) -> Seq {
        // They are few.
        let count = i64::try_from(self.newest.len()).unwrap_or(0);
        Seq(self.head.unwrap_or_default().0 - count)
    }

    /// True if some messages that were heard of were not taken.
    pub(super) fn has_gap(&self) -> bool {
        self.head.is_some_and(|head| head < self.known_head)
    }
}
