//! The outbox: what gateways change about members and rooms becomes entries, each once and in order.

use std::sync::Arc;

use shared::domain::{Change, Command, MemberChange, RoomChange, RoomEntry, RoomId, RoomName, Seq};
use shared::storage::{CommitError, CreateRoom, JoinMode, PartitionBatch};

use crate::support::{Database, NOW, command, entry, message, on_both_back_ends};

on_both_back_ends![
    changes_of_members_come_before_what_they_allow,
    an_entry_comes_once_whoever_commits,
    a_failed_commit_leaves_the_outbox_alone,
    changes_of_a_later_version_wait,
    rooms_in_the_outbox_are_listed_in_pages,
];

fn name(raw: &str) -> RoomName {
    RoomName::parse(raw).unwrap()
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
    let committed = db.commit(&mut claim, vec![command(2, Command::Outbox(room))]).await.unwrap();
    let second = ["bob leaves bob", "ann leaves ann", "ann joins ann as owner"];
    assert_eq!(words(&committed.rooms[0].entries), second);
    assert_eq!(committed.rooms[0].entries[0].seq(), Seq(4));

    let read = db.store.entries_after(room, Seq::ZERO, 100).await.unwrap();
    assert_eq!(words(&read), [&first[..], &second[..]].concat());
    // A page of history was read at a head, and no message was altered since.
    assert_eq!(db.store.head(room).await.unwrap().changed, Seq::ZERO);
    db.positions_grow_with_seqs().await;
}

async fn an_entry_comes_once_whoever_commits(db: Database) {
    let ann = db.user("ann").await;
    let other = db.room("empty", &ann).await.id;
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    let mut old = db.claim().await;
    // Two hints in one batch, one of a room that has nothing, and one of no room.
    db.store.join_public(room, ann.id, JoinMode::Explicit, NOW).await.unwrap();
    let hints = [room, room, other, RoomId(99)];
    let entries = (1..).zip(hints).map(|(ms, room)| command(ms, Command::Outbox(room))).collect();
    let committed = db.commit(&mut old, entries).await.unwrap();
    assert_eq!((committed.rooms.len(), committed.dead_letters), (1, 0));
    assert_eq!(words(&committed.rooms[0].entries), ["ann creates false"]);
    // A worker that took over, and the hint once more.
    let mut new = db.claim().await;
    let again = db.commit(&mut new, vec![command(9, Command::Outbox(room))]).await.unwrap();
    assert!(again.rooms.is_empty());
    let stale = db.commit(&mut old, vec![command(9, Command::Outbox(room))]).await;
    assert!(matches!(stale, Err(CommitError::StaleClaims(_))));
    assert_eq!(db.store.entries_after(room, Seq::ZERO, 100).await.unwrap().len(), 1);
}

async fn a_failed_commit_leaves_the_outbox_alone(db: Database) {
    let ann = db.user("ann").await;
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    let claim = db.claim().await;
    let batch = PartitionBatch {
        claim,
        entries: vec![command(1, Command::Outbox(room))],
    };
    let panics = async { panic!("the worker ends before its commit") };
    let store = db.store.clone();
    let cut = tokio::spawn(async move { store.commit(Arc::new([batch]), NOW, panics).await.map(drop) });
    assert!(!matches!(cut.await, Ok(Ok(()))));
    assert_eq!(db.store.rooms_in_outbox(RoomId(0), 10).await.unwrap(), [room]);
    let mut claim = db.claim().await;
    let committed = db.commit(&mut claim, vec![command(1, Command::Outbox(room))]).await.unwrap();
    assert_eq!(words(&committed.rooms[0].entries), ["ann creates false"]);
}

async fn changes_of_a_later_version_wait(db: Database) {
    let ann = db.user("ann").await;
    let room = db.store.create_room(CreateRoom::public(name("lobby"), ann.id), NOW).await.unwrap().id;
    db.execute("UPDATE outbox SET detail = '{\"change\":\"painted\"}'").await;
    let mut claim = db.claim().await;
    let committed = db.commit(&mut claim, vec![entry(1, message(room, ann.id, "hello"))]).await.unwrap();
    assert_eq!(words(&committed.rooms[0].entries), ["hello"]);
    assert_eq!(db.store.rooms_in_outbox(RoomId(0), 10).await.unwrap(), [room]);
}

async fn rooms_in_the_outbox_are_listed_in_pages(db: Database) {
    let ann = db.user("ann").await;
    let mut rooms = Vec::new();
    for number in 0..5 {
        let new = CreateRoom::public(name(&format!("room-{number}")), ann.id);
        rooms.push(db.store.create_room(new, NOW).await.unwrap().id);
    }
    assert_eq!(db.store.rooms_in_outbox(RoomId(0), 3).await.unwrap(), rooms[..3]);
    assert_eq!(db.store.rooms_in_outbox(rooms[2], 3).await.unwrap(), rooms[3..]);
}
