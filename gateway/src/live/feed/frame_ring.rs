//! Ring of the latest frames of a room, and what is known of the messages that it does not keep.
//!
//! The newest frames are kept one by one. As soon as they fill a block they are joined, so that readers that are behind, each
//! at a position of its own, get large segments that nobody copies.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::domain::Seq;

use super::{FeedRead, Gap};
use crate::live::block::{Block, SEGMENT_BYTES};
use crate::live::frame::{Frame, Framing};

/// Bytes a feed keeps, apart from its newest frames: some ten thousand ordinary messages, or several seconds of the busiest
/// room. A reader that falls further behind reads history instead.
const RING_BYTES: usize = 4 * 1024 * 1024;

/// Newest frames that are kept one by one at most, however small they are.
const BLOCK_FRAMES: usize = 256;

/// The latest frames of a room.
#[derive(Default)]
pub(super) struct FrameRing {
    /// The last seq appended, kept or not; `None` until the feed is started.
    pub(super) head: Option<Seq>,
    /// The last entry appended that altered a message.
    pub(super) changed: Seq,
    /// Most of the rooms that are open are silent and keep nothing.
    kept: Option<Box<KeptFrames>>,
}

/// The frames that are kept, up to the head.
#[derive(Default)]
struct KeptFrames {
    blocks: VecDeque<Block>,
    /// The frames after them, one by one.
    newest: Vec<Frame>,
    /// Bytes of both.
    bytes: usize,
    newest_bytes: usize,
    /// The segment that was joined last from the newest frames, by its framing: readers at the same position share it.
    joined: [Option<Box<Joined>>; Framing::COUNT],
}

/// A joined segment, and the seqs that it lies between.
struct Joined {
    cursor: Seq,
    last: Seq,
    segment: Bytes,
}

impl FrameRing {
    /// Adds the frame after the newest one; its message becomes the head.
    pub(super) fn push(&mut self, frame: Frame) {
        self.head = self.head.map(Seq::next);
        self.kept.get_or_insert_default().push(frame, self.head.unwrap_or_default());
    }

    /// Drops all frames and goes on after `head`, if the ring is not there yet.
    pub(super) fn skip_to(&mut self, head: Seq) {
        if self.head.is_some_and(|before| before < head) {
            *self = Self {
                head: Some(head),
                changed: head,
                kept: None,
            };
        }
    }

    /// Drops all frames.
    pub(super) fn drop_all(&mut self) {
        self.kept = None;
    }

    /// Drops the oldest frames until `most` bytes are kept at most. The newest frame is kept all the same, unless it is in a block.
    pub(super) fn shrink(&mut self, most: usize) {
        if let Some(kept) = &mut self.kept {
            kept.shrink(most);
        }
    }

    /// Bytes kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.kept_bytes())
    }

    /// What follows `cursor`, in one segment of at most `limit` frames.
    pub(super) fn read_after(&mut self, cursor: Seq, limit: usize, framing: Framing) -> FeedRead {
        let head = self.head.unwrap_or_default();
        if cursor >= head || limit == 0 {
            return FeedRead::UpToDate;
        }
        match &mut self.kept {
            Some(kept) => kept.read_after((cursor, head), limit, framing),
            None => FeedRead::Behind(Gap { floor: head, head }),
        }
    }
}

impl KeptFrames {
    /// Adds the frame after the newest one, which is that of the new `head`.
    fn push(&mut self, frame: Frame, head: Seq) {
        self.bytes += frame.kept_bytes();
        self.newest_bytes += frame.kept_bytes();
        self.newest.push(frame);
        if self.newest_bytes >= SEGMENT_BYTES || self.newest.len() >= BLOCK_FRAMES {
            self.join_newest(head);
            self.drop_blocks(RING_BYTES);
        }
    }

    fn join_newest(&mut self, head: Seq) {
        let block = Block::of(self.before_newest(head), &self.newest);
        self.bytes = self.bytes - self.newest_bytes + block.kept_bytes();
        self.blocks.push_back(block);
        self.newest.clear();
        self.newest_bytes = 0;
        self.joined = Default::default();
    }

    fn drop_blocks(&mut self, most: usize) {
        while self.bytes > most
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.bytes -= oldest.kept_bytes();
        }
    }

    fn shrink(&mut self, most: usize) {
        self.joined = Default::default();
        self.drop_blocks(most);
        let mut surplus = self.bytes.saturating_sub(most);
        let mut count = 0;
        while surplus > 0 && count + 1 < self.newest.len() {
            surplus = surplus.saturating_sub(self.newest[count].kept_bytes());
            count += 1;
        }
        let dropped: usize = self.newest.drain(..count).map(|frame| frame.kept_bytes()).sum();
        self.bytes -= dropped;
        self.newest_bytes -= dropped;
        self.newest.shrink_to_fit();
        self.blocks.shrink_to_fit();
    }

    fn kept_bytes(&self) -> usize {
        self.bytes + self.joined.iter().flatten().map(|joined| joined.segment.len()).sum::<usize>()
    }

    /// What follows `cursor` up to `head`.
    fn read_after(&mut self, (cursor, head): (Seq, Seq), limit: usize, framing: Framing) -> FeedRead {
        let before_newest = self.before_newest(head);
        if cursor >= before_newest {
            return self.read_newest(cursor, cursor.since(before_newest), limit, framing);
        }
        let floor = self.blocks.front().map_or(before_newest, Block::after);
        if cursor < floor {
            return FeedRead::Behind(Gap { floor, head });
        }
        let index = self.blocks.partition_point(|block| block.after() <= cursor).saturating_sub(1);
        let (segment, last) = self.blocks[index].read_after(cursor, limit, framing);
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
        if let Some(known) = known {
            return FeedRead::Frames(known.segment.clone(), last);
        }
        let (segment, _) = Block::of(cursor, frames).read_after(cursor, frames.len(), framing);
        *joined = Some(Box::new(Joined {
            cursor,
            last,
            segment: segment.clone(),
        }));
        FeedRead::Frames(segment, last)
    }

    /// The seq before the newest frames.
    fn before_newest(&self, head: Seq) -> Seq {
        // They are few.
        let count = i64::try_from(self.newest.len()).unwrap_or(0);
        Seq(head.0 - count)
    }
}
