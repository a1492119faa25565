//! Devices that follow all rooms of their user: what they lack, get twice, or must not get.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fixture::{at, broken, id, interval, message};
use super::members::joined;
use crate::evidence::{
    ByeReason, Evidence, ExistingRoom, FinalRooms, Message, PlainEntry, Restore, RoomNews, UserReceived, UserRecord,
    UserRoomCall, UserSource, UserStreams,
};
use crate::oracle::judge;
use crate::oracle::tests::fixture::BOUNDS;
use crate::oracle::violation::Invariant;

const USER: &str = "dora";
/// A room of her own, which is deleted and created again.
const OWN: &str = "own";
const ROOM: &str = "room-0";

fn received(room: &str, news: RoomNews, at: Duration) -> UserReceived {
    UserReceived {
        room: room.to_owned(),
        news,
        at,
    }
}

/// A message of the room, or an entry of the room of her own, by its seq.
fn entry(room: &str, seq: u32, at: Duration) -> UserReceived {
    let entry = match room {
        ROOM => PlainEntry::Message(message(seq)),
        _ => PlainEntry::Other(Box::new(joined(seq.into(), USER))),
    };
    received(room, RoomNews::Entry(entry), at)
}

fn rooms(rooms: &[(&str, i64)]) -> BTreeMap<String, i64> {
    rooms.iter().map(|(room, seq)| ((*room).to_owned(), *seq)).collect()
}

fn record(source: UserSource, known: &[(&str, i64)], news: Vec<UserReceived>) -> UserRecord {
    let is_resumed = !known.is_empty();
    UserRecord {
        device: 0,
        username: USER.to_owned(),
        gateway: 0,
        source,
        known: rooms(known),
        unbegun: BTreeSet::new(),
        is_resumed,
        was_paged: false,
        has_recovered: is_resumed,
        received: news,
        unexpected_events: Vec::new(),
        requested: at(4),
        opened: at(5),
        bye: None,
    }
}

fn call(room: &str, is_in: bool, settled: Duration) -> UserRoomCall {
    UserRoomCall {
        username: USER.to_owned(),
        room: room.to_owned(),
        is_in,
        sent: settled.saturating_sub(at(1)),
        settled,
        is_acknowledged: true,
    }
}

fn existing(head: i64, member: &str) -> ExistingRoom {
    ExistingRoom {
        head,
        members: [member.to_owned()].into(),
    }
}

/// She is in room 0 from the second message on. Her device has a stream, catches up by a call, and has another stream, while which she
/// creates a room, deletes it, and creates another one of the same name.
pub(super) fn user_streams() -> UserStreams {
    let first = vec![received(ROOM, RoomNews::State(2), at(5)), entry(ROOM, 3, at(6))];
    let answer = vec![received(ROOM, RoomNews::State(4), at(10)), entry(ROOM, 4, at(10))];
    let second = vec![
        received(OWN, RoomNews::State(1), at(21)),
        entry(ROOM, 5, at(22)),
        entry(OWN, 2, at(23)),
        received(OWN, RoomNews::Gone, at(41)),
        received(OWN, RoomNews::State(1), at(61)),
        entry(OWN, 2, at(62)),
    ];
    UserStreams {
        records: vec![
            record(UserSource::Stream, &[], first),
            record(UserSource::Sync, &[(ROOM, 3)], answer),
            record(UserSource::Stream, &[(ROOM, 4)], second),
        ],
        calls: vec![
            call(ROOM, true, at(3)),
            call(OWN, true, at(20)),
            call(OWN, false, at(40)),
            call(OWN, true, at(60)),
        ],
        final_rooms: vec![FinalRooms {
            device: 0,
            username: USER.to_owned(),
            rooms: rooms(&[(ROOM, 5), (OWN, 2)]),
        }],
        rooms: [
            (ROOM.to_owned(), existing(5, USER)),
            (OWN.to_owned(), existing(2, USER)),
            ("room-1".to_owned(), existing(3, "ann")),
        ]
        .into(),
    }
}

/// What is found broken after a change of record `number`.
fn broken_record(number: usize, change: impl FnOnce(&mut UserRecord)) -> BTreeSet<Invariant> {
    broken(|evidence| change(&mut evidence.user_streams.records[number]))
}

fn only(invariant: Invariant) -> BTreeSet<Invariant> {
    [invariant].into()
}

#[test]
fn user_stream_with_hole_double_or_wrong_start_is_found() {
    let found = || only(Invariant::UserStreams);
    let lost = |record: &mut UserRecord| {
        record.known.insert(ROOM.to_owned(), 3);
    };
    assert_eq!(broken_record(2, lost), found());
    assert_eq!(broken_record(2, |record| record.received.insert(2, entry(ROOM, 5, at(22)))), found());
    assert_eq!(broken_record(2, |record| record.received.swap(1, 4)), found(), "behind the room that is gone");
    // A room that is new begins behind its head, and not before it.
    for head in [0, 2] {
        let other_head = |record: &mut UserRecord| record.received[0] = received(OWN, RoomNews::State(head), at(21));
        assert_eq!(broken_record(2, other_head), found(), "{head}");
    }
    assert_eq!(broken_record(2, |record| drop(record.received.remove(0))), found(), "without a state");
    // One that the device has goes on where it was, whatever its head is.
    let known = |record: &mut UserRecord| record.received.insert(1, received(ROOM, RoomNews::State(90), at(21)));
    assert_eq!(broken_record(2, known), BTreeSet::new());
}

#[test]
fn room_that_goes_on_after_its_end_is_found() {
    // Neither the end of the earlier room nor the beginning of the later one is told.
    assert_eq!(broken_record(2, |record| drop(record.received.drain(3..5))), only(Invariant::UserStreams));
    assert_eq!(broken_record(2, |record| drop(record.received.remove(3))), only(Invariant::UserStreams));
    assert_eq!(broken_record(2, |record| drop(record.received.remove(4))), only(Invariant::UserStreams));
}

#[test]
fn gap_of_an_answer_must_begin_where_the_device_was() {
    let with_gap = |from, to| {
        broken_record(1, |record| {
            record.known.insert(ROOM.to_owned(), 1);
            record.received.insert(1, received(ROOM, RoomNews::Gap(from, to), at(10)));
        })
    };
    assert_eq!(with_gap(2, 3), BTreeSet::new());
    for (from, to) in [(3, 3), (2, 2), (1, 3), (3, 2)] {
        assert_eq!(with_gap(from, to), only(Invariant::UserStreams), "{from} to {to}");
    }
}

#[test]
fn cursor_that_is_not_kept_to_is_found() {
    let found = || only(Invariant::UserStreams);
    assert_eq!(broken_record(1, |record| record.received[0].news = RoomNews::Reset(3)), found());
    assert!(broken_record(2, |record| record.has_recovered = false).contains(&Invariant::UserStreams));
    let from_nothing = |record: &mut UserRecord| (record.is_resumed, record.has_recovered) = (false, true);
    assert_eq!(broken_record(0, from_nothing), found());
}

#[test]
fn first_answer_in_pages_lets_rooms_begin_before_their_heads() {
    let with_head = |head, was_paged| {
        broken_record(2, |record| {
            record.received[0] = received(OWN, RoomNews::State(head), at(21));
            record.was_paged = was_paged;
        })
    };
    assert_eq!(with_head(3, true), BTreeSet::new());
    assert_eq!(with_head(0, true), only(Invariant::UserStreams), "nothing is left out all the same");
    // Nor does it know where it begins until something of it has come.
    let unbegun = |seq| {
        broken_record(1, |record| {
            record.known.insert(ROOM.to_owned(), seq);
            record.unbegun.insert(ROOM.to_owned());
        })
    };
    assert_eq!((unbegun(7), unbegun(2)), (BTreeSet::new(), only(Invariant::UserStreams)));
    let preview = |has_state: bool| {
        broken_record(0, |record| {
            let at_first = usize::from(has_state);
            let preview = RoomNews::Preview(PlainEntry::Message(message(2)));
            record.received.insert(at_first, received(ROOM, preview, at(5)));
        })
    };
    assert_eq!((preview(true), preview(false)), (BTreeSet::new(), only(Invariant::UserStreams)));
}

#[test]
fn device_that_lacks_something_in_the_end_is_found() {
    let at_the_end = |room: &str, last: Option<i64>| {
        broken(|evidence| {
            let rooms = &mut evidence.user_streams.final_rooms[0].rooms;
            rooms.remove(room);
            rooms.extend(last.map(|last| (room.to_owned(), last)));
        })
    };
    let found = || only(Invariant::UserStreams);
    assert_eq!(at_the_end(ROOM, Some(4)), found());
    assert_eq!(at_the_end(OWN, None), found());
    assert_eq!(at_the_end("room-1", Some(3)), found());
}

#[test]
fn room_that_the_user_is_not_in_is_found() {
    let found = || only(Invariant::LeavingTakesEffect);
    let without_call = |evidence: &mut Evidence| drop(evidence.user_streams.calls.remove(0));
    assert_eq!(broken(without_call), found());
    // Its end comes late, with an entry before it.
    let late = |seconds, change: fn(&mut Evidence)| {
        broken(|evidence| {
            let record = &mut evidence.user_streams.records[2];
            record.received.insert(3, entry(OWN, 3, at(seconds)));
            record.received[4].at = at(seconds);
            change(evidence);
        })
    };
    assert_eq!(late(41, |_| ()), BTreeSet::new());
    assert_eq!(late(42, |_| ()), found());
    assert_eq!(late(42, |evidence| evidence.unreachable.push(interval(0, 40..42))), BTreeSet::new());
    assert_eq!(late(42, |evidence| evidence.unnotified.push(interval(0, 40..42))), BTreeSet::new());
    let undone = |evidence: &mut Evidence| {
        evidence.restores.push(Restore {
            copied: at(39),
            from: at(200),
            until: at(201),
            ..Restore::default()
        });
    };
    assert!(!late(42, undone).contains(&Invariant::LeavingTakesEffect), "it was undone");
    // It is not known whether the user was in it.
    assert_eq!(late(42, |evidence| evidence.user_streams.calls[2].is_acknowledged = false), BTreeSet::new());
}

#[test]
fn entry_that_the_log_lacks_is_found() {
    let other_id = |record: &mut UserRecord| {
        let other = Message {
            id: id(99),
            ..message(4)
        };
        record.received[1].news = RoomNews::Entry(PlainEntry::Message(other));
    };
    assert_eq!(broken_record(1, other_id), only(Invariant::ReceivedIsStored));
    let previewed = |record: &mut UserRecord| {
        let other = Message {
            id: id(99),
            ..message(2)
        };
        record.received.insert(1, received(ROOM, RoomNews::Preview(PlainEntry::Message(other)), at(5)));
    };
    assert_eq!(broken_record(0, previewed), only(Invariant::ReceivedIsStored));
}

#[test]
fn forged_event_and_false_end_of_a_user_stream_are_found() {
    let forged = |record: &mut UserRecord| record.unexpected_events.push("event: bye".to_owned());
    assert_eq!(broken_record(2, forged), only(Invariant::NoForgery));
    for bye in [
        ByeReason::Removed,
        ByeReason::Revoked,
        ByeReason::HistoryChanged,
        ByeReason::Other,
    ] {
        assert_eq!(broken_record(2, |record| record.bye = Some(bye)), only(Invariant::TrueReasons));
    }
    assert_eq!(broken_record(2, |record| record.bye = Some(ByeReason::Shutdown)), BTreeSet::new());
}

#[test]
fn device_that_is_not_told_of_a_restore_is_found() {
    let after_restore = |change: fn(&mut UserRecord)| {
        let mut evidence = Evidence {
            user_streams: user_streams(),
            restores: vec![Restore {
                copied: at(70),
                from: at(80),
                until: at(90),
                ..Restore::default()
            }],
            ..Evidence::default()
        };
        evidence.user_streams.records[2].bye = Some(ByeReason::HistoryChanged);
        let reset = [(ROOM, 5), (OWN, 2)].map(|(room, head)| received(room, RoomNews::Reset(head), at(91)));
        let mut record = UserRecord {
            has_recovered: false,
            opened: at(91),
            ..record(UserSource::Stream, &[(ROOM, 5), (OWN, 2)], reset.into())
        };
        change(&mut record);
        evidence.user_streams.records.push(record);
        judge(&evidence, &BOUNDS).into_iter().map(|violation| violation.invariant).collect::<BTreeSet<_>>()
    };
    assert_eq!(after_restore(|_| ()), BTreeSet::new());
    assert_eq!(after_restore(|record| record.has_recovered = true), only(Invariant::UserStreams));
    assert_eq!(after_restore(|record| record.opened = at(79)), only(Invariant::UserStreams));
}
