//! How far a user's stream has sent each of its rooms, as its cursors say it.
//!
//! A cursor has a base and the rooms that are ahead of it. A room is ahead from the moment something of it is sent. It is taken back into the
//! base when a horizon is adopted: a position up to which nothing can be stored any more, and up to which every feed knows its
//! entries (see [`super::hub`]). What was sent before the horizon was sampled was stored before it, so it lies at or below its position;
//! and if nothing of a room is left to be sent, everything at or below it was sent.

use std::collections::BTreeMap;
use std::time::Instant;

use shared::domain::{Epoch, Position, RemovalCount, RoomId, RoomsVersion, Seq};

use super::hub::Horizon;
use super::user_cursor::{Base, UserCursor};

/// Rooms that are ahead from which on a horizon is adopted.
const ADOPT_FROM: usize = 8;

/// Rooms that may be ahead: so many fit into a cursor of [`super::user_cursor::MAX_CURSOR_LEN`]. Others wait for a horizon.
pub(super) const AHEAD_AT_MOST: usize = 500;

/// The same without the room whose missed entries are sent: a place is kept for it, so that a client can always catch up.
pub(super) const LIVE_AHEAD_AT_MOST: usize = AHEAD_AT_MOST - 1;

/// More rooms have something unsent than a cursor can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more rooms have something unsent than a cursor can name")]
pub(super) struct TooManyAhead;

/// The progress of one stream.
pub(super) struct UserProgress {
    epoch: Epoch,
    base: Base,
    /// While it catches up: the room that was finished last, 0 for none, and what the finished rooms are at.
    catching_up: Option<(RoomId, Position)>,
    ahead: BTreeMap<RoomId, Ahead>,
}

/// A room at a seq of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ahead {
    seq: Seq,
    since: Instant,
}

impl UserProgress {
    /// A stream whose rooms are at `base` but for those that are `ahead` of it at `now`.
    pub(super) fn new(epoch: Epoch, base: Base, ahead: impl IntoIterator<Item = (RoomId, Seq)>, now: Instant) -> Self {
        let ahead = ahead.into_iter().map(|(room, seq)| (room, Ahead { seq, since: now }));
        Self {
            epoch,
            base,
            catching_up: None,
            ahead: ahead.collect(),
        }
    }

    /// Begins to bring rooms up to date one after the other, ascending by id: the finished ones are at `upper`, and those up to `upto` are
    /// finished.
    pub(super) fn begin_catching_up(&mut self, upto: RoomId, upper: Position) {
        self.catching_up = Some((upto, upper.max(self.base.position)));
    }

    /// Notes that all rooms up to `room` are up to date. Its last entry that was sent is at `last`, or it is not known where: unless that
    /// is within the upper base, the room stays ahead.
    pub(super) fn note_finished(&mut self, room: RoomId, last: Option<Position>) {
        if let Some((upto, upper)) = &mut self.catching_up {
            *upto = room;
            if last.is_some_and(|last| last <= *upper) {
                self.ahead.remove(&room);
            }
        }
    }

    /// Notes that every room is up to date.
    pub(super) fn finish_catching_up(&mut self) {
        if let Some((_, upper)) = self.catching_up.take() {
            self.base.position = upper;
        }
    }

    /// Notes that `room` was sent up to `seq` at `now`.
    pub(super) fn note_sent(&mut self, room: RoomId, seq: Seq, now: Instant) {
        self.ahead.insert(room, Ahead { seq, since: now });
    }

    /// Notes that the client knows the user's rooms as they were then.
    pub(super) fn note_rooms_known(&mut self, version: RoomsVersion, removals: RemovalCount) {
        self.base.version = self.base.version.max(version);
        self.base.removals = self.base.removals.max(removals);
    }

    /// Forgets a room that the user is no longer in.
    pub(super) fn forget(&mut self, room: RoomId) {
        self.ahead.remove(&room);
    }

    /// What of the user's rooms the client was told of.
    pub(super) fn version(&self) -> RoomsVersion {
        self.base.version
    }

    /// Whether a cursor can say that something of `room` was sent, of which entries were missed if it `is_behind`.
    pub(super) fn has_space_for(&self, room: RoomId, is_behind: bool) -> bool {
        let most = if is_behind { AHEAD_AT_MOST } else { LIVE_AHEAD_AT_MOST };
        self.ahead.len() < most || self.ahead.contains_key(&room)
    }

    /// Whether so many rooms are ahead that a cursor can say it of no further one.
    pub(super) fn is_full(&self) -> bool {
        self.ahead.len() >= LIVE_AHEAD_AT_MOST
    }

    /// Whether a cursor can name `count` further rooms.
    pub(super) fn has_space_for_new(&self, count: usize) -> bool {
        self.ahead.len() + count <= LIVE_AHEAD_AT_MOST
    }

    /// Whether rooms are brought up to date one after the other.
    pub(super) fn is_catching_up(&self) -> bool {
        self.catching_up.is_some()
    }

    /// Whether a horizon should be adopted.
    pub(super) fn wants_horizon(&self) -> bool {
        self.catching_up.is_none() && self.ahead.len() >= ADOPT_FROM
    }

    /// Moves the base up to a horizon. `unsent` are the rooms of which something may be left to be sent, each with the seq that it was
    /// sent up to. If these are too many for a cursor, the base stays where it is.
    pub(super) fn adopt(
        &mut self,
        horizon: Horizon,
        unsent: impl IntoIterator<Item = (RoomId, Seq)>,
        now: Instant,
    ) -> Result<(), TooManyAhead> {
        if self.catching_up.is_some() || horizon.position <= self.base.position {
            return Ok(());
        }
        let staying = self.ahead.iter().filter(|(_, ahead)| ahead.since >= horizon.sampled_at);
        let staying = staying.map(|(room, ahead)| (*room, *ahead));
        let unsent = unsent.into_iter().map(|(room, seq)| (room, Ahead { seq, since: now }));
        let ahead: BTreeMap<RoomId, Ahead> = staying.chain(unsent).collect();
        if ahead.len() > LIVE_AHEAD_AT_MOST {
            return Err(TooManyAhead);
        }
        self.base.position = horizon.position;
        self.ahead = ahead;
        Ok(())
    }

    /// The cursor of what was sent so far.
    pub(super) fn cursor(&self) -> UserCursor {
        let finished = self.catching_up.filter(|(upto, _)| upto.0 > 0).map(|(upto, upper)| {
            let base = Base {
                position: upper,
                ..self.base
            };
            (upto, base)
        });
        UserCursor {
            epoch: self.epoch,
            base: self.base,
            finished,
            ahead: self.ahead.iter().map(|(room, ahead)| (*room, ahead.seq)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn base(position: i64) -> Base {
        Base {
            position: Position(position),
            ..Base::default()
        }
    }

    fn at(horizon: i64, sampled_at: Instant) -> Horizon {
        Horizon {
            position: Position(horizon),
            sampled_at,
        }
    }

    #[test]
    fn a_horizon_takes_back_the_rooms_that_have_been_silent_since_it_was_sampled() {
        let start = Instant::now();
        let later = |ms| start + Duration::from_millis(ms);
        let mut progress = UserProgress::new(Epoch(1), base(10), [(RoomId(1), Seq(5))], start);
        progress.note_sent(RoomId(2), Seq(7), later(100));
        progress.note_sent(RoomId(3), Seq(8), later(300));
        progress.adopt(at(20, later(200)), [(RoomId(4), Seq(9))], later(400)).unwrap();
        let cursor = progress.cursor();
        assert_eq!(cursor.base.position, Position(20));
        assert_eq!(cursor.ahead, [(RoomId(3), Seq(8)), (RoomId(4), Seq(9))]);
        progress.adopt(at(19, later(500)), [], later(600)).unwrap();
        assert_eq!(progress.cursor(), cursor, "a base never moves back");
    }

    #[test]
    fn rooms_that_were_brought_up_to_date_are_at_the_upper_base() {
        let start = Instant::now();
        let mut progress = UserProgress::new(Epoch(1), base(10), [], start);
        progress.begin_catching_up(RoomId(0), Position(50));
        assert_eq!(progress.cursor().finished, None, "none is finished");
        progress.note_sent(RoomId(3), Seq(4), start);
        progress.adopt(at(60, start), [], start).unwrap();
        assert_eq!(progress.cursor().base, base(10), "the others are at the base still");
        progress.note_finished(RoomId(3), Some(Position(50)));
        assert_eq!((progress.cursor().finished, progress.cursor().ahead), (Some((RoomId(3), base(50))), vec![]));
        progress.note_sent(RoomId(8), Seq(2), start);
        progress.note_finished(RoomId(8), Some(Position(51)));
        assert_eq!(progress.cursor().ahead, [(RoomId(8), Seq(2))], "its last entry is above the upper base");
        progress.note_sent(RoomId(9), Seq(6), start);
        progress.note_finished(RoomId(9), None);
        let expected = [(RoomId(8), Seq(2)), (RoomId(9), Seq(6))];
        assert_eq!(progress.cursor().ahead, expected, "more was sent of it than had been missed");
        progress.finish_catching_up();
        assert_eq!((progress.cursor().base, progress.cursor().finished), (base(50), None));
    }

    #[test]
    fn a_cursor_never_names_too_many_rooms() {
        let start = Instant::now();
        let later = |ms| start + Duration::from_millis(ms);
        let mut progress = UserProgress::new(Epoch(1), base(10), [], start);
        let mut room = 0;
        while progress.has_space_for(RoomId(room + 1), false) {
            room += 1;
            progress.note_sent(RoomId(room), Seq(1), start);
        }
        assert_eq!(progress.cursor().ahead.len(), LIVE_AHEAD_AT_MOST);
        assert!(progress.has_space_for(RoomId(room), false), "it is named already");
        assert!(progress.has_space_for(RoomId(room + 1), true), "a place is kept");
        progress.note_sent(RoomId(room + 1), Seq(1), start);
        assert!(!progress.has_space_for(RoomId(room + 2), true));

        let unsent = |count| (1_001..).take(count).map(|number| (RoomId(number), Seq(1)));
        let before = progress.cursor();
        assert_eq!(progress.adopt(at(20, later(1)), unsent(AHEAD_AT_MOST), later(2)), Err(TooManyAhead));
        assert_eq!(progress.cursor(), before);
        progress.adopt(at(20, later(1)), unsent(2), later(2)).unwrap();
        assert_eq!((progress.cursor().base, progress.cursor().ahead.len()), (base(20), 2));
    }
}
