//! The outbox: what gateways change about members and rooms becomes entries, each once and in order.

use std::sync::Arc;

use shared::domain::{
    Accepted, Change, Command, MemberChange, RoomChange, RoomEntry, RoomId, RoomName, Seq, Timestamp, UserId,
};
use shared::storage::{CommitError, CreateRoom, JoinMode, PartitionBatch};

use crate::support::{Database, NOW, command, entry, hint, message, on_both_back_ends};

on_both_back_ends![
    changes_of_members_come_before_what_they_allow,
    last_messages_of_a_member_come_before_their_leaving,
    late_messages_of_a_member_who_is_back_come_before_their_leaving,
    an_entry_comes_once_whoever_commits,
    a_failed_commit_leaves_the_outbox_alone,
    changes_of_a_later_version_wait,
    more_rows_than_one_commit_takes_are_taken_in_order,
    rooms_in_the_outbox_are_listed_in_pages,
];

fn name(raw: &str) -> RoomName {
    RoomName::parse(raw).unwrap()
}

/// The rooms that the outbox has rows about.
async fn waiting(db: &Database, after: RoomId, limit: u32) -> Vec<RoomId> {
    db.store.rooms_in_outbox(after, limit).await.unwrap().iter().map(|hint| hint.room).collect()
}

/// The entries in words.
fn words(entries: &[RoomEntry]) -> Vec<String> {
    let word = |entry: &RoomEntry| match entry {
        RoomEntry::Message(message) => message.text.clone(),
        RoomEntry::Change(stored) => match &stored.change {
            Change::Member { member, change } => match change {
                MemberChange::Joined { role } => format!("{} joins {member} as {}", stored.username, role.as_str()),
                MemberChange::Left => format!("{} leaves {member}", stored.username),
            },
            Change::Room(RoomChange::Created { private }) => format!("{} creates {private}", stored.username),
            Change::Edit { .. } | Change::Delete { .. } | Change::Reaction { .. } => "another".to_owned(),
        },
    };
    entries.iter().map(word).collect()
}

async fn changes_of_members_come_before_what_they_allow(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    db.store.join_public(room, bob.id, JoinMode::ByName, NOW).await.unwrap();
    // A member who joins again stays what they are.
    db.store.join_public(room, bob.id, JoinMode::ByName, NOW).await.unwrap();
    let mut claim = db.claim().await;
    let committed = db.commit(&mut claim, vec![entry(1, message(room, bob.id, "hello"))]).await.unwrap();
    let first = ["ann creates false", "bob joins bob as member", "hello"];
    assert_eq!(words(&committed.rooms[0].entries), first);

    db.store.leave(room, bob.id, NOW).await.unwrap();
    db.store.leave(room, bob.id, NOW).await.unwrap();
    db.store.leave(room, ann.id, NOW).await.unwrap();
    db.store.join_public(room, ann.id, JoinMode::Explicit, NOW).await.unwrap();
    let committed = db.commit(&mut claim, vec![command(2, hint(room))]).await.unwrap();
    let second = ["bob leaves bob", "ann leaves ann", "ann joins ann as owner"];
    assert_eq!(words(&committed.rooms[0].entries), second);
    assert_eq!(committed.rooms[0].entries[0].seq(), Seq(4));

    let read = db.store.entries_after(room, Seq::ZERO, 100).await.unwrap();
    assert_eq!(words(&read), [&first[..], &second[..]].concat());
    // A page of history was read at a head, and no message was altered since.
    assert_eq!(db.store.head(room).await.unwrap().changed, Seq::ZERO);
    db.positions_grow_with_seqs().await;
}

async fn last_messages_of_a_member_come_before_their_leaving(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    db.store.join_public(room, bob.id, JoinMode::ByName, NOW).await.unwrap();
    let joined = db.store.last_in_outbox(room).await.unwrap().unwrap();
    db.store.leave(room, bob.id, NOW).await.unwrap();
    let left = db.store.last_in_outbox(room).await.unwrap().unwrap();
    db.store.join_public(room, bob.id, JoinMode::ByName, NOW).await.unwrap();
    // All of it was accepted while no worker was there. The hint about the joining came late.
    let mut claim = db.claim().await;
    let entries = [
        Command::Message(message(room, ann.id, "welcome")),
        Command::Outbox(joined),
        Command::Message(message(room, ann.id, "bye")),
        Command::Outbox(left),
        Command::Message(message(room, ann.id, "where is he")),
        Command::Message(message(room, bob.id, "back")),
        Command::Outbox(left),
    ];
    let entries = (1..).zip(entries).map(|(ms, done)| command(ms, done)).collect();
    let committed = db.commit(&mut claim, entries).await.unwrap();
    let expected = [
        "ann creates false",
        "welcome",
        "bob joins bob as member",
        "bye",
        "bob leaves bob",
        "where is he",
        "bob joins bob as member",
        "back",
    ];
    assert_eq!(words(&committed.rooms[0].entries), expected);
    assert_eq!(db.store.last_in_outbox(room).await.unwrap(), None);
}

async fn late_messages_of_a_member_who_is_back_come_before_their_leaving(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    let at = |ms: i64| Timestamp(NOW.0 + ms);
    db.store.join_public(room, bob.id, JoinMode::ByName, at(10)).await.unwrap();
    db.store.leave(room, bob.id, at(30)).await.unwrap();
    db.store.join_public(room, bob.id, JoinMode::ByName, at(40)).await.unwrap();
    let posted = |user: UserId, text, ms| {
        Command::Message(Accepted {
            created_on: at(ms),
            ..message(room, user, text)
        })
    };
    // All of it was stored when a worker came, and no hint was sent. The clock of the gateway of the first message is slow.
    let entries = [
        posted(bob.id, "first", 5),
        posted(bob.id, "last", 29),
        posted(ann.id, "where is he", 35),
        posted(bob.id, "back", 40),
    ];
    let mut claim = db.claim().await;
    let entries = (1..).zip(entries).map(|(ms, done)| command(ms, done)).collect();
    let committed = db.commit(&mut claim, entries).await.unwrap();
    let expected = [
        "ann creates false",
        "bob joins bob as member",
        "first",
        "last",
        "where is he",
        "bob leaves bob",
        "bob joins bob as member",
        "back",
    ];
    assert_eq!(words(&committed.rooms[0].entries), expected);
}

async fn an_entry_comes_once_whoever_commits(db: Database) {
    let ann = db.user("ann").await;
    let other = db.room("empty", &ann).await.id;
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    let mut old = db.claim().await;
    // Two hints in one batch, one of a room that has nothing, and one of no room.
    db.store.join_public(room, ann.id, JoinMode::Explicit, NOW).await.unwrap();
    let hints = [room, room, other, RoomId(99)];
    let entries = (1..).zip(hints).map(|(ms, room)| command(ms, hint(room))).collect();
    let committed = db.commit(&mut old, entries).await.unwrap();
    assert_eq!((committed.rooms.len(), committed.dead_letters), (1, 0));
    assert_eq!(words(&committed.rooms[0].entries), ["ann creates false"]);
    // A worker that took over, and the hint once more.
    let mut new = db.claim().await;
    let again = db.commit(&mut new, vec![command(9, hint(room))]).await.unwrap();
    assert!(again.rooms.is_empty());
    // A hint that is read again is not about what happened since.
    db.store.leave(room, ann.id, NOW).await.unwrap();
    let left = db.store.last_in_outbox(room).await.unwrap().unwrap();
    db.commit(&mut new, vec![command(10, Command::Outbox(left))]).await.unwrap();
    db.store.join_public(room, ann.id, JoinMode::Explicit, NOW).await.unwrap();
    let again = db.commit(&mut new, vec![command(11, Command::Outbox(left))]).await.unwrap();
    assert!(again.rooms.is_empty());
    let stale = db.commit(&mut old, vec![command(9, hint(room))]).await;
    assert!(matches!(stale, Err(CommitError::StaleClaims(_))));
    assert_eq!(db.store.entries_after(room, Seq::ZERO, 100).await.unwrap().len(), 2);
}

async fn a_failed_commit_leaves_the_outbox_alone(db: Database) {
    let ann = db.user("ann").await;
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    let claim = db.claim().await;
    let batch = PartitionBatch {
        claim,
        entries: vec![command(1, hint(room))],
    };
    let panics = async { panic!("the worker ends before its commit") };
    let store = db.store.clone();
    let cut = tokio::spawn(async move { store.commit(Arc::new([batch]), NOW, panics).await.map(drop) });
    assert!(!matches!(cut.await, Ok(Ok(()))));
    assert_eq!(waiting(&db, RoomId(0), 10).await, [room]);
    let mut claim = db.claim().await;
    let committed = db.commit(&mut claim, vec![command(1, hint(room))]).await.unwrap();
    assert_eq!(words(&committed.rooms[0].entries), ["ann creates false"]);
}

async fn changes_of_a_later_version_wait(db: Database) {
    let ann = db.user("ann").await;
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    db.execute("UPDATE outbox SET detail = '{\"change\":\"painted\"}'").await;
    // What follows waits with it, so that the order stays what it was.
    db.store.leave(room, ann.id, NOW).await.unwrap();
    let mut claim = db.claim().await;
    let entries = vec![entry(1, message(room, ann.id, "hello")), command(2, hint(room))];
    let committed = db.commit(&mut claim, entries).await.unwrap();
    assert_eq!(words(&committed.rooms[0].entries), ["hello"]);
    assert_eq!(waiting(&db, RoomId(0), 10).await, [room]);
    db.execute("UPDATE outbox SET detail = '{\"change\":\"created\",\"private\":true}' WHERE kind = 'room'")
        .await;
    let committed = db.commit(&mut claim, vec![command(3, hint(room))]).await.unwrap();
    assert_eq!(words(&committed.rooms[0].entries), ["ann creates true", "ann leaves ann"]);
}

async fn more_rows_than_one_commit_takes_are_taken_in_order(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    for _ in 0..501 {
        db.store.leave(room, ann.id, NOW).await.unwrap();
        db.store.join_public(room, ann.id, JoinMode::Explicit, NOW).await.unwrap();
    }
    let mut claim = db.claim().await;
    let mut taken = Vec::new();
    for ms in 1..=2 {
        let committed = db.commit(&mut claim, vec![command(ms, hint(room))]).await.unwrap();
        taken.push(words(&committed.rooms[0].entries));
    }
    assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 2]);
    for (number, word) in taken.concat().iter().enumerate() {
        assert_eq!(word, ["ann leaves ann", "ann joins ann as owner"][number % 2]);
    }
}

async fn rooms_in_the_outbox_are_listed_in_pages(db: Database) {
    let ann = db.user("ann").await;
    let mut rooms = Vec::new();
    for number in 0..5 {
        let new = CreateRoom::public(name(&format!("room-{number}")), ann.id);
        rooms.push(db.store.create_room(new, NOW).await.unwrap().id);
    }
    assert_eq!(waiting(&db, RoomId(0), 3).await, rooms[..3]);
    assert_eq!(waiting(&db, rooms[2], 3).await, rooms[3..]);
    let found = db.store.rooms_in_outbox(RoomId(0), 1).await.unwrap();
    assert_eq!(Some(found[0]), db.store.last_in_outbox(rooms[0]).await.unwrap());
}
