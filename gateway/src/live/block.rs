//! Frames in one stretch of memory, of which every reader gets its part without a copy.

use bytes::{Bytes, BytesMut};
use shared::domain::Seq;

use super::frame::{Frame, Framing, payload};

/// Bytes after which a piece is not made longer: what is handed to the kernel at once, and what a client that reads nothing
/// holds at most beside what lies there.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// Frames of successive seqs.
#[derive(Debug)]
pub(super) struct Block {
    /// The seq before the first.
    after: Seq,
    /// The frames in their chunks.
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

    /// The seq before the first frame.
    pub(super) fn after(&self) -> Seq {
        self.after
    }

    /// Bytes it takes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }

    /// A piece of what follows `cursor`, of at most `limit` frames, and the last one's seq. The cursor is not before the
    /// block; behind it there is nothing.
    pub(super) fn read_after(&self, cursor: Seq, limit: usize, framing: Framing) -> (Bytes, Seq) {
        let passed = cursor.since(self.after).min(self.ends.len());
        let start = self.end_of(passed);
        let behind = &self.ends[passed..];
        // The frame with which the piece is long enough is its last one.
        let count = limit.min(behind.partition_point(|end| end - start < PIECE_BYTES) + 1).min(behind.len());
        let chunks = self.bytes.slice(start..self.end_of(passed + count));
        let piece = match framing {
            Framing::Chunked => chunks,
            Framing::Library => {
                let mut piece = BytesMut::with_capacity(chunks.len());
                for number in passed..passed + count {
                    piece.extend_from_slice(payload(&self.bytes[self.end_of(number)..self.end_of(number + 1)]));
                }
                piece.freeze()
            }
        };
        (piece, cursor.plus(count))
    }

    /// Where the first `count` frames end.
    fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.ends[last])
    }
}
