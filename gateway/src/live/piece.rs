//! What is written to a client at once.

use bytes::{Bytes, BytesMut};
use shared::domain::Seq;

use super::frame::{Frame, Framing};

/// Bytes after which a piece is not made longer: what a client that reads nothing holds at most, beside what lies in the
/// kernel.
pub(super) const PIECE_BYTES: usize = 32 * 1024;

/// Joins the frames that follow `cursor`, as many of them as make a piece; returns the last one's seq too.
pub(super) fn join<'a>(cursor: Seq, frames: impl Iterator<Item = &'a Frame>, framing: Framing) -> (Bytes, Seq) {
    let (mut piece, mut last) = (BytesMut::new(), cursor);
    for frame in frames {
        piece.extend_from_slice(frame.as_slice(framing));
        last = last.next();
        if piece.len() >= PIECE_BYTES {
            break;
        }
    }
    (piece.freeze(), last)
}
