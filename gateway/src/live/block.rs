//! Frames of successive messages in one buffer, of which every reader gets its part without a copy.

use bytes::{Bytes, BytesMut};
use shared::domain::Seq;

use super::frame::{Frame, Framing, payload};

/// Bytes after which a segment is not made longer: what is handed to the kernel at once, and about what a client that reads
/// nothing keeps allocated beside the buffers of the kernel.
pub(super) const SEGMENT_BYTES: usize = 64 * 1024;

/// Frames of successive seqs.
#[derive(Debug)]
pub(super) struct Block {
    /// The seq before the first.
    after: Seq,
    /// The frames, each inside of its HTTP chunk.
    bytes: Bytes,
    /// Where each frame ends.
    ends: Box<[usize]>,
}

impl Block {
    /// The frames that follow `after`.
    pub(super) fn of(after: Seq, frames: &[Frame]) -> Self {
        let mut bytes = BytesMut::with_capacity(frames.iter().map(Frame::kept_bytes).sum());
        let ends = frames.iter().map(|frame| {
            bytes.extend_from_slice(frame.as_slice(Framing::Chunked));
            bytes.len()
        });
        Self {
            after,
            ends: ends.collect(),
            bytes: bytes.freeze(),
        }
    }

    /// The frames that follow `after`, in blocks of about the length of a segment: a client that holds on to a segment keeps
    /// its block allocated, and no more.
    pub(super) fn row(mut after: Seq, frames: &[Frame]) -> Vec<Self> {
        let mut bytes = 0;
        let full = |frame: &Frame| {
            bytes = if bytes >= SEGMENT_BYTES { 0 } else { bytes } + frame.kept_bytes();
            bytes >= SEGMENT_BYTES
        };
        let blocks = frames.split_inclusive(full).map(|frames| {
            let block = Self::of(after, frames);
            after = after.plus(frames.len());
            block
        });
        blocks.collect()
    }

    /// The block of `row` with what follows `cursor`; `None` if the cursor lies before the first block.
    pub(super) fn find(row: &[Self], cursor: Seq) -> Option<&Self> {
        row.partition_point(|block| block.after <= cursor).checked_sub(1).map(|index| &row[index])
    }

    /// The seq before the first frame.
    pub(super) fn after(&self) -> Seq {
        self.after
    }

    /// Bytes of memory it takes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }

    /// A segment of what follows `cursor`, of at most `limit` frames, and the seq of the last one. The cursor must not lie
    /// before the block; behind the block the segment is empty.
    pub(super) fn read_after(&self, cursor: Seq, limit: usize, framing: Framing) -> (Bytes, Seq) {
        let passed = cursor.since(self.after).min(self.ends.len());
        let start = self.end_of(passed);
        let behind = &self.ends[passed..];
        // The frame with which the segment is long enough is its last one.
        let count = limit.min(behind.partition_point(|end| end - start < SEGMENT_BYTES) + 1).min(behind.len());
        let chunks = self.bytes.slice(start..self.end_of(passed + count));
        let segment = match framing {
            Framing::Chunked => chunks,
            Framing::Library => {
                let mut segment = BytesMut::with_capacity(chunks.len());
                for number in passed..passed + count {
                    segment.extend_from_slice(payload(&self.bytes[self.end_of(number)..self.end_of(number + 1)]));
                }
                segment.freeze()
            }
        };
        (segment, cursor.plus(count))
    }

    /// Where the first `count` frames end.
    fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.ends[last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::event_kind::Kind;
    use crate::live::frame::event;

    #[test]
    fn long_frames_are_split_into_successive_blocks() {
        let text = "x".repeat(SEGMENT_BYTES / 3);
        let frames: Vec<Frame> = (0..10).map(|_| event(Kind::Ping, None, &text)).collect();
        let row = Block::row(Seq(5), &frames);
        assert!(row.iter().all(|block| block.kept_bytes() < 2 * SEGMENT_BYTES));
        let (mut cursor, mut sent) = (Seq(5), Vec::new());
        while cursor < Seq(15) {
            let block = Block::find(&row, cursor).unwrap();
            let (segment, last) = block.read_after(cursor, 2, Framing::Chunked);
            assert!(last > cursor);
            sent.extend_from_slice(&segment);
            cursor = last;
        }
        let all: Vec<u8> = frames.iter().flat_map(|frame| frame.as_slice(Framing::Chunked).to_vec()).collect();
        assert_eq!(sent, all);
        assert!(Block::find(&row, Seq(4)).is_none());
    }
}
