//! The frames a feed keeps, and what it knows of those it does not.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::domain::Seq;

use super::{Gap, Read};
use crate::live::frame::{Frame, Framing};
use crate::live::piece;

/// Frames a feed keeps. A reader that falls further behind reads history instead.
const RING_FRAMES: usize = 1_024;

/// Bytes a feed keeps, the newest frame aside.
const RING_BYTES: usize = 1024 * 1024;

/// The last frames of a room.
#[derive(Default)]
pub(super) struct Ring {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// The last seq taken, kept or not; `None` until the feed was started.
    pub(super) head: Option<Seq>,
    /// The largest seq heard of, taken or not.
    pub(super) heard: Seq,
    /// The piece joined last: readers at the same place share it.
    joined: Option<Joined>,
}

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    cursor: Seq,
    head: Seq,
    count: usize,
    framing: Framing,
}

/// A piece with the seq of its last frame.
struct Joined {
    place: Place,
    piece: Bytes,
    last: Seq,
}

impl Ring {
    /// Adds the frame behind the newest one.
    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.kept_bytes();
        self.frames.push_back(frame);
        self.cut(RING_BYTES);
    }

    fn cut(&mut self, most_bytes: usize) {
        while self.frames.len() > RING_FRAMES || (self.bytes > most_bytes && self.frames.len() > 1) {
            if let Some(oldest) = self.frames.pop_front() {
                self.bytes -= oldest.kept_bytes();
            }
        }
    }

    /// Gives up the oldest frames until `most` bytes are kept at most, the newest frame aside.
    pub(super) fn shrink(&mut self, most: usize) {
        self.joined = None;
        self.cut(most);
        self.frames.shrink_to_fit();
    }

    /// Bytes kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes + self.joined.as_ref().map_or(0, |joined| joined.piece.len())
    }

    /// What follows `cursor`, in one piece of at most `limit` frames.
    pub(super) fn read_after(&mut self, cursor: Seq, limit: usize, framing: Framing) -> Read {
        let head = self.head.unwrap_or_default();
        // Seqs are dense: the distance to the head says how many frames from the end of the ring are wanted.
        let Ok(wanted) = usize::try_from(head.0 - cursor.0) else {
            return Read::UpToDate;
        };
        let Some(from) = self.frames.len().checked_sub(wanted) else {
            // At most RING_FRAMES.
            let kept = i64::try_from(self.frames.len()).unwrap_or(0);
            let floor = Seq(head.0 - kept);
            return Read::Behind(Gap { floor, head });
        };
        match wanted.min(limit) {
            0 => Read::UpToDate,
            1 => Read::Frames(self.frames[from].bytes(framing), cursor.next()),
            count => {
                let place = Place {
                    cursor,
                    head,
                    count,
                    framing,
                };
                self.join(place, from)
            }
        }
    }

    /// The frames behind a cursor, up to a count, the first at `from`; fewer if they are large.
    fn join(&mut self, place: Place, from: usize) -> Read {
        let known = self.joined.as_ref().filter(|joined| joined.place == place);
        if let Some(Joined { piece, last, .. }) = known {
            return Read::Frames(piece.clone(), *last);
        }
        let frames = self.frames.range(from..from + place.count);
        let (piece, last) = piece::join(place.cursor, frames, place.framing);
        let shared = piece.clone();
        self.joined = Some(Joined { place, piece, last });
        Read::Frames(shared, last)
    }

    /// True if some messages that were heard of were not taken.
    pub(super) fn is_missing_some(&self) -> bool {
        self.head.is_some_and(|head| head < self.heard)
    }
}
