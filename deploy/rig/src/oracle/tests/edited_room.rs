//! Evidence of an edited room in which every promise was kept: two editors, two messages, and two followers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fixture::{at, id, post, stream_of, text};
use super::members::{joined, left};
use crate::evidence::{
    ChangeOutcome, ChangeRequest, Digest, EditedRoom, EditedRooms, EntryKind, Evidence, FinalPosition, LogEntry, Post,
    PostOutcome, Received, RequestedChange, Restore, ShownMessage, StreamRecord, Target,
};

/// The messages: the first of `ann`, which is edited and reacted to, and the second of `bob`, which is deleted.
pub(super) const FIRST: u32 = 60;
pub(super) const SECOND: u32 = 61;
/// Numbers of texts: both as they were posted, and of the edit.
pub(super) const POSTED: u32 = 70;
pub(super) const POSTED_TOO: u32 = 71;
pub(super) const EDITED: u32 = 72;
pub(super) const REPLY: u32 = 62;
pub(super) const REPLIED: u32 = 73;
pub(super) const PARTY: &str = "🎉";

pub(super) fn entry(seq: i64, username: &str, kind: EntryKind) -> LogEntry {
    let username = username.to_owned();
    LogEntry { seq, username, kind }
}

fn target(number: u32) -> Target {
    Target {
        id: id(number),
        seq: i64::from(number - FIRST) + 1,
    }
}

pub(super) fn message(number: u32, text: Digest) -> EntryKind {
    EntryKind::Message(shown(number, text))
}

pub(super) fn shown(number: u32, text: Digest) -> ShownMessage {
    ShownMessage {
        id: id(number),
        text,
        edited_on: None,
        deleted: false,
        reactions: BTreeMap::new(),
        reply_to: None,
        mentions: Vec::new(),
    }
}

pub(super) fn reaction(seq: i64, username: &str, on: bool, count: i64) -> LogEntry {
    let emoji = PARTY.to_owned();
    let target = target(FIRST);
    entry(
        seq,
        username,
        EntryKind::Reaction {
            target,
            emoji,
            on,
            count,
        },
    )
}

/// The entries as they were sent live.
fn live() -> Vec<LogEntry> {
    vec![
        entry(1, "ann", message(FIRST, text(POSTED))),
        entry(2, "bob", message(SECOND, text(POSTED_TOO))),
        reaction(3, "bob", true, 1),
        edit(4, EDITED),
        reaction(5, "ann", true, 2),
        reaction(6, "bob", false, 1),
        entry(7, "bob", EntryKind::Delete { target: target(SECOND) }),
    ]
}

pub(super) fn edit(seq: i64, number: u32) -> LogEntry {
    let kind = EntryKind::Edit {
        target: target(FIRST),
        text: text(number),
        edited_on: 4_000,
    };
    entry(seq, "ann", kind)
}

/// The entries as they are sent later: messages as they are now.
pub(super) fn replayed() -> Vec<LogEntry> {
    let mut entries = live();
    let first = ShownMessage {
        edited_on: Some(4_000),
        reactions: [(PARTY.to_owned(), 1)].into(),
        ..shown(FIRST, text(EDITED))
    };
    let second = ShownMessage {
        deleted: true,
        ..shown(SECOND, Digest::of(""))
    };
    entries[0].kind = EntryKind::Message(first);
    entries[1].kind = EntryKind::Message(second);
    entries
}

pub(super) fn followed(
    follower: usize,
    resumed_after: Option<i64>,
    ready: i64,
    entries: impl IntoIterator<Item = LogEntry>,
) -> StreamRecord<LogEntry> {
    let received = |entry: LogEntry| Received {
        cursor: entry.seq,
        entry,
        at: at(100),
    };
    StreamRecord {
        subscriber: follower,
        ..stream_of(ready, resumed_after, entries.into_iter().map(received).collect())
    }
}

pub(super) fn change(number: u32, username: &str, request: ChangeRequest, settled: Duration) -> RequestedChange {
    RequestedChange {
        room: 0,
        username: username.to_owned(),
        target: id(number),
        request,
        sent: settled,
        settled,
        outcome: ChangeOutcome::Acknowledged,
        unknown_tries: 0,
    }
}

pub(super) fn react(on: bool) -> ChangeRequest {
    let emoji = PARTY.to_owned();
    ChangeRequest::React { emoji, on }
}

/// Evidence of the room alone.
pub(super) fn edited_room() -> EditedRooms {
    let posted = |sender, number, shown| Post {
        sender,
        text: text(shown),
        outcome: PostOutcome::Acknowledged(id(number)),
        ..post(number)
    };
    let refused = RequestedChange {
        outcome: ChangeOutcome::Deleted,
        ..change(SECOND, "ann", react(true), at(90))
    };
    let contents = EditedRoom {
        history: replayed()[..2].to_vec(),
        log: replayed(),
        reactions: [(1, PARTY.to_owned(), "ann".to_owned())].into(),
        members: BTreeSet::new(),
    };
    let end = |subscriber| FinalPosition {
        subscriber,
        room: 0,
        last: 7,
    };
    EditedRooms {
        names: vec!["edited-0".to_owned()],
        posts: vec![posted(0, FIRST, POSTED), posted(1, SECOND, POSTED_TOO)],
        changes: vec![
            change(FIRST, "bob", react(true), at(80)),
            change(FIRST, "ann", ChangeRequest::Edit(text(EDITED)), at(81)),
            change(FIRST, "ann", react(true), at(82)),
            change(FIRST, "bob", react(false), at(83)),
            change(SECOND, "bob", ChangeRequest::Delete, at(84)),
            refused,
        ],
        streams: vec![
            // Live, resumed, and anew from an earlier position.
            followed(0, None, 0, live().drain(..5)),
            followed(0, Some(5), 5, live().drain(5..)),
            followed(0, Some(2), 2, replayed().drain(2..)),
            // Late, and from the beginning.
            followed(1, None, 3, []),
            followed(1, Some(0), 0, replayed()),
        ],
        final_positions: vec![end(0), end(1)],
        contents: vec![contents],
    }
}

/// The same after a restore by which an edit is gone; `bob` reacts again afterwards.
pub(super) fn restored_room() -> Evidence {
    let mut evidence = Evidence {
        edited: edited_room(),
        restores: vec![Restore {
            copied: at(190),
            from: at(200),
            until: at(210),
            ..Restore::default()
        }],
        ..Evidence::default()
    };
    let edited = &mut evidence.edited;
    edited.changes.push(change(FIRST, "ann", ChangeRequest::Edit(text(99)), at(195)));
    edited.changes.push(change(FIRST, "bob", react(true), at(220)));
    let mut undone = followed(0, Some(7), 7, [edit(8, 99)]);
    undone.received[0].at = at(195);
    edited.streams.push(undone);
    let mut log = replayed();
    log.push(reaction(8, "bob", true, 2));
    if let EntryKind::Message(first) = &mut log[0].kind {
        first.reactions.insert(PARTY.to_owned(), 2);
    }
    for (follower, last) in [(0, 8), (1, 7)] {
        let mut reset = followed(follower, Some(last), 7, []);
        (reset.epoch, reset.reset, reset.opened) = (8, Some(7), at(211));
        let mut anew = followed(follower, Some(0), 0, log.clone());
        (anew.epoch, anew.resumed_epoch, anew.opened) = (8, Some(8), at(212));
        for received in &mut anew.received {
            received.at = at(230);
        }
        edited.streams.extend([reset, anew]);
        edited.final_positions[follower].last = 8;
    }
    let contents = &mut edited.contents[0];
    contents.history = log[..2].to_vec();
    contents.log = log;
    contents.reactions.insert((1, PARTY.to_owned(), "bob".to_owned()));
    evidence
}

/// Evidence of the room when `carl` has joined and left, and `bob` has joined and replied to the first message.
pub(super) fn room_with_members() -> EditedRooms {
    let mut edited = edited_room();
    let reply = ShownMessage {
        reply_to: Some(id(FIRST)),
        mentions: vec!["ann".to_owned()],
        ..shown(REPLY, text(REPLIED))
    };
    let new = [
        joined(8, "carl"),
        joined(9, "bob"),
        left(10, "carl"),
        entry(11, "bob", EntryKind::Message(reply)),
    ];
    edited.posts.push(Post {
        sender: 1,
        text: text(REPLIED),
        reply_to: Some(id(FIRST)),
        mentions: vec!["ann".to_owned()],
        outcome: PostOutcome::Acknowledged(id(REPLY)),
        ..post(REPLY)
    });
    edited.posts.push(Post {
        text: text(99),
        reply_to: Some(id(SECOND)),
        outcome: PostOutcome::NoSuchReply,
        settled: at(95),
        ..post(99)
    });
    let contents = &mut edited.contents[0];
    contents.log.extend(new.clone());
    contents.history.push(new[3].clone());
    contents.members.insert("bob".to_owned());
    for follower in [0, 1] {
        edited.streams.push(followed(follower, Some(7), 7, new.clone()));
        edited.final_positions[follower].last = 11;
    }
    edited
}

/// Changes the first message in history and in the database alike.
pub(super) fn rewrite_first(evidence: &mut Evidence, change: impl Fn(&mut ShownMessage)) {
    let contents = &mut evidence.edited.contents[0];
    for entry in [&mut contents.history[0], &mut contents.log[0]] {
        if let EntryKind::Message(message) = &mut entry.kind {
            change(message);
        }
    }
}
