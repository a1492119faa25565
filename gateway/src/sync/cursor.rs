//! The cursor of an answer, as it follows from the rooms that the answer has.
//!
//! Answers that follow each other bring rooms up to date in the order of their ids. Until the last room has come, the cursor has two bases:
//! the rooms up to the one that came last are at the upper base, which is what there was when the first of these answers began. What
//! happens in them meanwhile comes when all have had their turn, in a further answer: so many rooms that move all the time hold up none.
//! Rooms that are gone come in the same order, so that no answer names too many of them.

use shared::domain::{Position, RoomId, Seq};
use shared::storage::GoneRoom;

use crate::live::{Base, PlannedRoom, UserCursor, UserPlan};

/// What a client has with each room of an answer.
pub(super) struct SyncCursor {
    cursor: UserCursor,
    /// What the rooms are at that came, but for those that are named.
    upper: Base,
    /// The room that came last, 0 for none.
    upto: RoomId,
    /// An answer has brought some of the rooms already.
    is_between_pages: bool,
}

impl SyncCursor {
    /// That of an answer to `cursor`. Of all rooms everything up to `horizon` was stored before the plan was read.
    pub(super) fn new(mut cursor: UserCursor, plan: &UserPlan, horizon: Position) -> Self {
        let is_planned = |room| plan.rooms.binary_search_by_key(&room, |planned| planned.followed.room.id).is_ok();
        cursor.ahead.retain(|(room, _)| is_planned(*room));
        let begun = Base {
            position: horizon.max(cursor.base.position),
            ..plan.base
        };
        let (upto, upper) = cursor.finished.unwrap_or((RoomId(0), begun));
        Self {
            is_between_pages: cursor.finished.is_some(),
            cursor,
            upper,
            upto,
        }
    }

    /// Whether an earlier answer has brought some of the rooms.
    pub(super) fn is_between_pages(&self) -> bool {
        self.is_between_pages
    }

    /// Whether the room has not come yet. One that the user has joined since the first answer comes after the last.
    pub(super) fn comes_now(&self, room: &PlannedRoom) -> bool {
        room.followed.room.id > self.upto && room.followed.joined <= self.upper.version
    }

    /// Whether no answer has named the room as gone yet.
    pub(super) fn names_now(&self, gone: &GoneRoom) -> bool {
        gone.room > self.upto
    }

    /// The answer has `room`, up to `seq`.
    pub(super) fn advance(&mut self, room: &PlannedRoom, seq: Seq) {
        self.upto = room.followed.room.id;
        self.cursor.set_ahead(self.upto, seq);
    }

    /// The answer has all that there is up to `gone`.
    pub(super) fn advance_to_gone(&mut self, gone: &GoneRoom) {
        self.upto = self.upto.max(gone.room);
    }

    /// The cursor if rooms are left.
    pub(super) fn between_pages(mut self, plan: &UserPlan) -> UserCursor {
        if self.upto.0 > 0 {
            self.cursor.finished = Some((self.upto, self.upper));
        }
        let upto = self.upto;
        self.without_those_at_base(plan, upto)
    }

    /// Begins with the rooms anew: all have come.
    pub(super) fn begin_again(self, plan: &UserPlan, horizon: Position) -> Self {
        let (cursor, _) = self.after_all(plan);
        Self::new(cursor, plan, horizon)
    }

    /// The cursor if all rooms have come, and whether something has happened meanwhile in those that came before.
    pub(super) fn after_all(mut self, plan: &UserPlan) -> (UserCursor, bool) {
        self.cursor.base = self.upper;
        self.cursor.finished = None;
        let upper = self.upper;
        let cursor = self.without_those_at_base(plan, RoomId(i64::MAX));
        let has_moved = |room: &PlannedRoom| {
            let followed = &room.followed;
            !room.is_hidden()
                && followed.position > upper.position
                && cursor.seq_of(followed.room.id) != Some(followed.head.seq)
        };
        let more = plan.base.version > upper.version || plan.rooms.iter().any(has_moved);
        (cursor, more)
    }

    /// No longer names those of the rooms up to `upto` that are at their head, if that is within the upper base.
    fn without_those_at_base(mut self, plan: &UserPlan, upto: RoomId) -> UserCursor {
        let Self { cursor, upper, .. } = &mut self;
        cursor.ahead.retain(|(room, seq)| {
            let at = plan.rooms.binary_search_by_key(room, |planned| planned.followed.room.id);
            let is_at_base = at.is_ok_and(|at| {
                let followed = &plan.rooms[at].followed;
                followed.position <= upper.position && followed.head.seq == *seq
            });
            *room > upto || !is_at_base
        });
        self.cursor
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::{Epoch, RoomsVersion};

    use super::*;
    use crate::live::plan_for_tests;

    fn base(version: i64, position: i64) -> Base {
        Base {
            version: RoomsVersion(version),
            position: Position(position),
            ..Base::default()
        }
    }

    /// A client that has all rooms up to position 10, with a plan of rooms that each have one entry more: room 1 at 11, room 2 at 12 …
    fn begun(rooms: i64) -> (UserCursor, UserPlan) {
        let cursor = UserCursor {
            epoch: Epoch(1),
            base: base(1, 10),
            finished: None,
            ahead: Vec::new(),
        };
        let rooms: Vec<_> = (1..=rooms).map(|room| (room, 10 + room)).collect();
        (cursor, plan_for_tests(1, &rooms))
    }

    fn ids(cursor: &SyncCursor, plan: &UserPlan) -> Vec<i64> {
        plan.rooms
            .iter()
            .filter(|room| cursor.comes_now(room))
            .map(|room| room.followed.room.id.0)
            .collect()
    }

    /// Answers with `count` rooms of the plan.
    fn answer(cursor: UserCursor, plan: &UserPlan, horizon: i64, count: usize) -> SyncCursor {
        let mut next = SyncCursor::new(cursor, plan, Position(horizon));
        let rooms: Vec<_> = plan.rooms.iter().filter(|room| next.comes_now(room)).take(count).collect();
        for room in rooms {
            next.advance(room, room.followed.head.seq);
        }
        next
    }

    #[test]
    fn rooms_that_move_all_the_time_hold_up_none() {
        let (cursor, plan) = begun(4);
        let first = answer(cursor, &plan, 14, 2).between_pages(&plan);
        assert_eq!((first.finished, &first.ahead[..]), (Some((RoomId(2), base(1, 14))), &[][..]));
        // Room 1 moves.
        let plan = plan_for_tests(1, &[(1, 15), (2, 12), (3, 13), (4, 14)]);
        let second = SyncCursor::new(first.clone(), &plan, Position(15));
        assert_eq!(ids(&second, &plan), [3, 4]);
        let (last, more) = answer(first, &plan, 15, 2).after_all(&plan);
        assert_eq!((last.base, last.finished, &last.ahead[..], more), (base(1, 14), None, &[][..], true));
        // The last answer has room 1, and nothing is left.
        let (done, more) = answer(last.clone(), &plan, 15, 0).after_all(&plan);
        assert_eq!((done.base, more), (base(1, 15), false));
        // It may be the same answer.
        let mut again = answer(last, &plan, 15, 0).begin_again(&plan, Position(15));
        again.advance(&plan.rooms[0], plan.rooms[0].followed.head.seq);
        let (done, more) = again.after_all(&plan);
        assert_eq!((done.base, &done.ahead[..], more), (base(1, 15), &[][..], false));
    }

    #[test]
    fn room_joined_between_answers_comes_after_the_last() {
        let (cursor, plan) = begun(2);
        let first = answer(cursor, &plan, 12, 1).between_pages(&plan);
        // Joined with version 2.
        let plan = plan_for_tests(2, &[(1, 11), (2, 12), (3, 13)]);
        assert_eq!(ids(&SyncCursor::new(first.clone(), &plan, Position(13)), &plan), [2]);
        let (last, more) = answer(first, &plan, 13, 1).after_all(&plan);
        assert_eq!((last.base, more), (base(1, 12), true));
    }

    #[test]
    fn cursor_between_answers_stays_short() {
        let (mut cursor, plan) = begun(2_000);
        for _ in 0..30 {
            cursor = answer(cursor, &plan, 2_010, 50).between_pages(&plan);
            assert!(cursor.encode().len() < 64, "{cursor:?}");
        }
        assert_eq!(cursor.finished.map(|(upto, _)| upto), Some(RoomId(1_500)));
        // Rooms above the horizon are named until they are below it.
        let (cursor, plan) = begun(10);
        let (last, more) = answer(cursor, &plan, 15, 10).after_all(&plan);
        assert_eq!((last.ahead.len(), more), (5, false));
    }
}
