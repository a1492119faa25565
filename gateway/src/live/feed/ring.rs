//! The frames a feed keeps, and what it knows of those it does not.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::domain::Seq;

use super::{Gap, Read};
use crate::live::piece;

/// Frames a feed keeps. A reader that falls further behind reads history instead.
const RING_FRAMES: usize = 1_024;

/// Bytes a feed keeps, the newest frame aside.
const RING_BYTES: usize = 1024 * 1024;

/// The last frames of a room.
#[derive(Default)]
pub(super) struct Ring {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The last seq taken, kept or not; `None` until the feed was started.
    pub(super) head: Option<Seq>,
    /// The largest seq heard of, taken or not.
    pub(super) heard: Seq,
    /// The piece joined last, with the cursor, head and count it is for: readers at the same place share it.
    joined: Option<((Seq, Seq, usize), Bytes, Seq)>,
}

impl Ring {
    /// Adds the frame behind the newest one.
    pub(super) fn push(&mut self, frame: Bytes) {
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

    /// Gives up the oldest frames until `most` bytes are kept at most, the newest frame aside.
    pub(super) fn shrink(&mut self, most: usize) {
        self.joined = None;
        self.cut(most);
        self.frames.shrink_to_fit();
    }

    /// Bytes kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes + self.joined.as_ref().map_or(0, |(_, frames, _)| frames.len())
    }

    /// What follows `cursor`, in one piece of at most `limit` frames.
    pub(super) fn read_after(&mut self, cursor: Seq, limit: usize) -> Read {
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
            1 => Read::Frames(self.frames[from].clone(), cursor.next()),
            count => self.join((cursor, head, count), from),
        }
    }

    /// The frames behind a cursor, up to a count, the first at place `from`; fewer if they are large.
    fn join(&mut self, place: (Seq, Seq, usize), from: usize) -> Read {
        if let Some((known, frames, last)) = &self.joined
            && *known == place
        {
            return Read::Frames(frames.clone(), *last);
        }
        let (cursor, _, count) = place;
        let (frames, last) = piece::join(cursor, self.frames.range(from..from + count));
        self.joined = Some((place, frames.clone(), last));
        Read::Frames(frames, last)
    }

    /// True if some messages that were heard of were not taken.
    pub(super) fn is_missing_some(&self) -> bool {
        self.head.is_some_and(|head| head < self.heard)
    }
}
