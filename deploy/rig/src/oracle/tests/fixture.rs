//! Evidence of healthy runs, and what breaks in it.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::edited_room::edited_room;
use super::members::{created, joined, membership_calls, room_members};
use super::user_streams::user_streams;
use crate::evidence::{
    ByeReason, Departure, Digest, EditedRooms, Evidence, FinalPosition, GatewayInterval, HistoryPage, MemorySample,
    Message, PlainEntry, Position, Post, PostOutcome, Received, Rejoin, Restore, RoomContents, RoomOperation,
    RoomResponse, StreamRecord, UserStreams,
};
use crate::oracle::judge;
use crate::oracle::violation::{Bounds, Invariant};

pub(super) const BOUNDS: Bounds = Bounds {
    removal: Duration::from_secs(1),
    memory_kib: 1_000,
    post: Duration::from_secs(5),
};

pub(super) const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn text(number: u32) -> Digest {
    Digest::of(&format!("message {number}"))
}

pub(super) fn id(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

pub(super) fn message(number: u32) -> Message {
    Message {
        seq: number.into(),
        id: id(number),
        text: text(number),
    }
}

pub(super) fn post(number: u32) -> Post {
    Post {
        room: 0,
        sender: 0,
        number,
        text: text(number),
        reply_to: None,
        mentions: Vec::new(),
        sent: at(u64::from(number) * 10),
        settled: at(u64::from(number) * 10 + 1),
        outcome: PostOutcome::Acknowledged(id(number)),
        unknown_tries: 0,
    }
}

pub(super) fn received(number: u32) -> Received<PlainEntry> {
    Received {
        entry: PlainEntry::Message(message(number)),
        cursor: number.into(),
        at: at(100),
    }
}

pub(super) fn stream(
    ready: i64,
    resumed_after: Option<i64>,
    numbers: std::ops::RangeInclusive<u32>,
) -> StreamRecord<PlainEntry> {
    stream_of(ready, resumed_after, numbers.map(received).collect())
}

pub(super) fn stream_of<E>(ready: i64, resumed_after: Option<i64>, received: Vec<Received<E>>) -> StreamRecord<E> {
    StreamRecord {
        subscriber: 0,
        room: 0,
        gateway: 0,
        resumed_after,
        resumed_epoch: resumed_after.map(|_| 7),
        ready,
        epoch: 7,
        reset: None,
        received,
        unexpected_events: Vec::new(),
        requested: at(0),
        opened: at(0),
        bye: None,
    }
}

pub(super) fn room_response(operation: RoomOperation, status: u16) -> RoomResponse {
    RoomResponse {
        room: "recreated".to_owned(),
        operation,
        status,
        id: (operation == RoomOperation::Post && status == 204).then(|| id(50)),
        at: at(30),
    }
}

pub(super) fn contents(incarnation: i64, messages: &[u32]) -> RoomContents {
    RoomContents {
        room: "recreated".to_owned(),
        incarnation,
        messages: messages.iter().map(|number| id(*number)).collect(),
    }
}

pub(super) fn position(cursor: i64, fence: i64, owner: &str) -> Position {
    Position {
        partition: 3,
        cursor: (cursor, 0),
        fence,
        owner: owner.to_owned(),
    }
}

pub(super) fn interval(gateway: usize, time: std::ops::Range<u64>) -> GatewayInterval {
    GatewayInterval {
        gateway,
        from: at(time.start),
        until: at(time.end),
    }
}

/// Responses about a room that is created, deleted and created again.
pub(super) fn recreator_responses() -> Vec<RoomResponse> {
    vec![
        room_response(RoomOperation::Get, 404),
        room_response(RoomOperation::Create, 201),
        room_response(RoomOperation::Create, 409),
        room_response(RoomOperation::Delete, 204),
        room_response(RoomOperation::Delete, 404),
        room_response(RoomOperation::Post, 404),
        room_response(RoomOperation::Create, 201),
        room_response(RoomOperation::Get, 200),
        room_response(RoomOperation::Post, 204),
    ]
}

/// A stream of another room, which shows that somebody has joined before what they post there, message 8 with seq 3.
fn stream_with_members() -> StreamRecord<PlainEntry> {
    let entries = [
        PlainEntry::Other(Box::new(joined(2, "ann"))),
        PlainEntry::Message(message_in_second_room()),
    ];
    let received = (2..).zip(entries).map(|(cursor, entry)| Received {
        entry,
        cursor,
        at: at(100),
    });
    StreamRecord {
        subscriber: 1,
        room: 1,
        ..stream_of(1, None, received.collect())
    }
}

/// Where the subscriber of a room ended, who has its number.
fn final_position(room: usize, last: i64) -> FinalPosition {
    let subscriber = room;
    FinalPosition { subscriber, room, last }
}

fn departure() -> Departure {
    Departure {
        room: 0,
        gateway: 0,
        left: at(10),
        last_received: Some(at(9)),
        ended: Some(at(10)),
        watched_until: at(12),
        bye: Some(ByeReason::Removed),
    }
}

fn message_in_second_room() -> Message {
    Message { seq: 3, ..message(8) }
}

/// Evidence of a run that kept every promise: five messages in one room, the last one of unknown outcome, and one in another, whose
/// log has other entries as well.
pub(super) fn healthy() -> Evidence {
    let mut posts: Vec<Post> = (1..=5).map(post).collect();
    posts[4].outcome = PostOutcome::Unknown;
    posts.push(Post { room: 1, ..post(8) });
    let history: Vec<Message> = (1..=5).map(message).collect();
    let second = vec![message_in_second_room()];
    Evidence {
        posts,
        slow_posts: vec![interval(0, 3..11)],
        unreachable: vec![interval(0, 1..5)],
        unnotified: Vec::new(),
        unannounced: Vec::new(),
        restores: Vec::new(),
        unexpected_responses: Vec::new(),
        streams: vec![stream(0, None, 1..=3), stream(3, Some(3), 4..=5), stream_with_members()],
        user_streams: user_streams(),
        edited: edited_room(),
        final_positions: vec![final_position(0, 5), final_position(1, 3)],
        history_pages: vec![HistoryPage {
            room: 0,
            messages: vec![message(3), message(2)],
            at: at(40),
        }],
        departures: vec![departure()],
        rejoins: vec![Rejoin {
            room: "recreated".to_owned(),
            left: at(20),
            posted: Some(id(51)),
            is_listed: Some(true),
            ended: None,
        }],
        room_responses: recreator_responses(),
        room_contents: vec![contents(0, &[]), contents(1, &[50, 51])],
        membership_calls: membership_calls(),
        room_members: vec![room_members()],
        left_in_outbox: 0,
        room_names: ["room-0", "room-1"].map(str::to_owned).into(),
        rows: vec![history.clone(), second.clone()],
        others: vec![Vec::new(), vec![created(1), joined(2, "ann")]],
        history: vec![history, second],
        positions: vec![position(1, 1, "a"), position(5, 1, "a"), position(5, 2, "b")],
        foreign_commits: Vec::new(),
        missing_during_run: Vec::new(),
        memory: vec![MemorySample {
            process: "gateway".to_owned(),
            kib: 1_000,
        }],
        dead_letters: 0,
        poison: 0,
        left_in_log: 0,
    }
}

/// The same after a restore: the messages of seq 4 and 5 are gone, and others have their seqs.
pub(super) fn restored() -> Evidence {
    let mut evidence = healthy();
    (evidence.edited, evidence.user_streams) = (EditedRooms::default(), UserStreams::default());
    (evidence.membership_calls, evidence.room_members) = (Vec::new(), Vec::new());
    // The subscriber of the second room does not come back.
    evidence.streams.truncate(2);
    evidence.restores = vec![Restore {
        copied: at(190),
        from: at(200),
        until: at(210),
        undone: [id(4), id(5)].into(),
        lost: [id(4), id(5)].into(),
    }];
    let after = |number: u32| Post {
        sent: at(220),
        settled: at(221),
        ..post(number)
    };
    evidence.posts.extend([after(6), after(7)]);
    let moved = |seq, number| Message { seq, ..message(number) };
    rewrite(&mut evidence, |history| history.splice(3.., [moved(4, 6), moved(5, 7)]).for_each(drop));
    evidence.streams[1].bye = Some(ByeReason::HistoryChanged);
    evidence.streams.push(StreamRecord {
        resumed_epoch: Some(7),
        epoch: 8,
        reset: Some(3),
        received: [(4, 6), (5, 7)]
            .map(|(seq, number)| Received {
                entry: PlainEntry::Message(moved(seq, number)),
                cursor: seq,
                at: at(230),
            })
            .into(),
        opened: at(211),
        ..stream(3, Some(5), 4..=5)
    });
    evidence
}

/// The invariants that are found broken in [`healthy`] evidence after `change`.
pub(super) fn broken(change: impl FnOnce(&mut Evidence)) -> BTreeSet<Invariant> {
    let mut evidence = healthy();
    change(&mut evidence);
    judge(&evidence, &BOUNDS).into_iter().map(|violation| violation.invariant).collect()
}

/// Changes history and the database alike, of a run without devices: they would have got what was there before.
pub(super) fn rewrite(evidence: &mut Evidence, change: impl Fn(&mut Vec<Message>)) {
    evidence.user_streams = UserStreams::default();
    change(&mut evidence.history[0]);
    change(&mut evidence.rows[0]);
}

/// Exchanges the seqs of two messages.
pub(super) fn swap(history: &mut [Message], one: usize, other: usize) {
    history.swap(one, other);
    for (seq, message) in (1..).zip(history) {
        message.seq = seq;
    }
}
