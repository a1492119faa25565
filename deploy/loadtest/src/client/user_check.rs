//! Checks a stream of all rooms of a user: in each room every entry must come once and in order, from where the client knows it.

use crate::client::order_check::OrderViolations;
use crate::client::sequence::{Sequence, Verdict};
use crate::client::sse_parser::EventKind;
use crate::client::user_sse_parser::{RoomState, UserEvent};

/// The cursor of a client that has nothing yet.
const START: &[u8] = b"AQ";

/// The check of one client, over all its streams.
#[derive(Debug)]
pub(crate) struct UserCheck {
    /// The rooms that the user is in, ascending by number.
    rooms: Box<[CheckedRoom]>,
    /// The id of the last event that had one.
    cursor: Vec<u8>,
}

/// A room of the user, none of which are joined, left or deleted in a run.
#[derive(Debug)]
struct CheckedRoom {
    room: usize,
    /// The seqs; `None` until an event had its state.
    seqs: Option<Sequence>,
    /// Entries up to the last seq that are no messages.
    others: u64,
}

impl UserCheck {
    /// The check of a user who is in these rooms, ascending by number. Each has so many entries at first that are no messages.
    pub(crate) fn new(rooms: impl IntoIterator<Item = (usize, u64)>) -> Self {
        let rooms = rooms.into_iter().map(|(room, others)| CheckedRoom {
            room,
            seqs: None,
            others,
        });
        Self {
            rooms: rooms.collect(),
            cursor: Vec::new(),
        }
    }

    /// The cursor to resume from; empty before the first stream.
    pub(crate) fn cursor(&self) -> &[u8] {
        &self.cursor
    }

    /// How many messages the client lacks in the room in which it lacks most, when `acknowledged` says how many each room has.
    pub(crate) fn behind(&self, acknowledged: impl Fn(usize) -> u64) -> u64 {
        let behind = self.rooms.iter().map(|room| acknowledged(room.room).saturating_sub(room.reached()));
        behind.max().unwrap_or(0)
    }

    /// Whether the client lacks messages, when `acknowledged` says how many each room has. A server that brings one room up to date after
    /// the other begins with the first.
    pub(crate) fn is_behind(&self, acknowledged: impl Fn(usize) -> u64) -> bool {
        self.rooms.iter().rev().any(|room| acknowledged(room.room) > room.reached())
    }

    /// Checks `event` and adds what it violates to `violations`.
    pub(crate) fn check(&mut self, event: &UserEvent<'_>, violations: &mut OrderViolations) {
        match event.kind {
            EventKind::Message | EventKind::OtherEntry => self.check_entry(event, violations),
            EventKind::Ready => {
                if !event.has_recovered {
                    violations.resets += u64::from(!self.cursor.is_empty() && self.cursor != START);
                    self.rooms.iter_mut().for_each(|room| room.seqs = None);
                }
                self.apply_rooms(event.rooms, violations);
            }
            EventKind::Rooms => self.apply_rooms(event.rooms, violations),
            EventKind::Reset => {
                violations.resets += 1;
                for state in event.rooms {
                    if let Some(room) = state.room.and_then(|room| self.room(room)) {
                        room.seqs = None;
                    }
                }
                self.apply_rooms(event.rooms, violations);
            }
            EventKind::Typing | EventKind::Ping | EventKind::Bye | EventKind::Unknown => {}
        }
        if !event.id.is_empty() {
            self.cursor.clear();
            self.cursor.extend_from_slice(event.id);
        }
    }

    fn room(&mut self, number: usize) -> Option<&mut CheckedRoom> {
        let at = self.rooms.binary_search_by_key(&number, |room| room.room).ok()?;
        self.rooms.get_mut(at)
    }

    fn check_entry(&mut self, event: &UserEvent<'_>, violations: &mut OrderViolations) {
        let is_message = event.kind == EventKind::Message;
        let entry = event.entry.and_then(|(number, seq)| Some((self.room(number)?, seq)));
        let verdict = entry.and_then(|(room, seq)| {
            let verdict = room.seqs.as_mut()?.check(seq);
            room.others += u64::from(!is_message && verdict != Verdict::Duplicate);
            Some(verdict)
        });
        violations.count(verdict);
    }

    /// Takes over where rooms begin that the client does not know. A room that is gone, or is none of the user's, is a violation.
    fn apply_rooms(&mut self, rooms: &[RoomState], violations: &mut OrderViolations) {
        for state in rooms {
            match (state.room.and_then(|room| self.room(room)), state.head) {
                (Some(room), Some(head)) => {
                    room.seqs.get_or_insert_with(|| Sequence::after(head));
                }
                (Some(_), None) | (None, _) => violations.misplaced += 1,
            }
        }
    }
}

impl CheckedRoom {
    /// How many messages the client has, including those before its first stream.
    fn reached(&self) -> u64 {
        self.seqs.as_ref().map_or(0, |seqs| seqs.last().saturating_sub(self.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EventKind, room: usize, seq: u64) -> UserEvent<'static> {
        UserEvent {
            kind,
            entry: Some((room, seq)),
            tag: None,
            rooms: &[],
            has_recovered: false,
            id: b"AQab",
        }
    }

    fn message(room: usize, seq: u64) -> UserEvent<'static> {
        entry(EventKind::Message, room, seq)
    }

    fn with_rooms(kind: EventKind, rooms: &[RoomState]) -> UserEvent<'_> {
        UserEvent {
            kind,
            entry: None,
            rooms,
            ..message(0, 0)
        }
    }

    const ROOMS: [RoomState; 2] = [
        RoomState {
            room: Some(3),
            head: Some(10),
        },
        RoomState {
            room: Some(5),
            head: Some(4),
        },
    ];

    /// The check after its first stream has begun, with one entry in each room that is no message, and the violations of `events`.
    fn check(events: &[UserEvent<'_>]) -> (UserCheck, OrderViolations) {
        let (mut check, mut violations) = (UserCheck::new([(3, 1), (5, 1)]), OrderViolations::default());
        for event in [with_rooms(EventKind::Ready, &[]), with_rooms(EventKind::Rooms, &ROOMS)].iter().chain(events) {
            check.check(event, &mut violations);
        }
        (check, violations)
    }

    #[test]
    fn a_stream_that_is_dense_in_each_room_is_correct() {
        let recovered = UserEvent {
            has_recovered: true,
            ..with_rooms(EventKind::Ready, &ROOMS)
        };
        let events = [
            message(3, 11),
            message(5, 5),
            entry(EventKind::OtherEntry, 5, 6),
            message(3, 12),
            recovered,
            message(5, 7),
        ];
        let (check, violations) = check(&events);
        assert_eq!((violations, check.cursor()), (OrderViolations::default(), &b"AQab"[..]));
        // Room 3 has 11 messages, and room 5 has 5.
        assert_eq!(check.behind(|room| if room == 3 { 12 } else { 5 }), 1);
        assert_eq!(check.behind(|_| 5), 0);
    }

    #[test]
    fn gaps_doubles_late_and_foreign_entries_are_found() {
        let (_, violations) = check(&[
            message(3, 13),
            message(3, 12),
            message(5, 5),
            message(5, 5),
            message(4, 1),
        ]);
        let OrderViolations {
            missing,
            doubled,
            misplaced,
            resets,
        } = violations;
        assert_eq!((missing, doubled, misplaced, resets), (1, 1, 2, 0));
    }

    #[test]
    fn rooms_that_are_gone_and_resets_are_found() {
        let gone = [RoomState {
            room: Some(5),
            head: None,
        }];
        let (_, violations) = check(&[with_rooms(EventKind::Rooms, &gone)]);
        assert_eq!(violations.misplaced, 1);
        let (check, violations) = check(&[with_rooms(EventKind::Reset, &ROOMS), with_rooms(EventKind::Ready, &[])]);
        assert_eq!(violations.resets, 2);
        assert_eq!(check.behind(|_| 1), 1, "it knows no room");
    }
}
