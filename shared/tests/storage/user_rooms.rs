//! The rooms of a user: what is unread in them, marks, settings, and what changed since a version.

use shared::domain::{
    Accepted, AcceptedChange, ChangeRequest, Command, MemberRole, MessageId, MessageText, Notify, NotifyLevel,
    Position, RemovalCount, RoomId, RoomKind, RoomName, RoomsVersion, Seq, Timestamp, UserId,
};
use shared::storage::{Claim, CreateRoom, JoinMode, ReadMark, RoomState, User};

use crate::support::{Database, NOW, command, entry, message, on_both_back_ends};

on_both_back_ends![
    a_user_sees_all_their_rooms_at_one_moment,
    unread_counts_messages_of_others_that_are_not_deleted,
    many_unread_messages_are_a_difference,
    a_mark_only_moves_forward,
    mentions_behind_the_mark_are_counted,
    who_joins_has_read_what_was_said_before,
    a_membership_begins_at_its_entry,
    rooms_that_were_lost_are_found_by_version,
    deleted_rooms_are_found_by_their_removal,
    every_change_has_a_higher_version,
    changes_of_an_earlier_release_get_versions,
    a_change_that_is_rolled_back_has_no_version,
    settings_for_notifications_are_kept,
    rooms_are_listed_by_their_latest_entry,
];

/// Edits or deletes a message.
fn change(room: RoomId, sender: UserId, target: MessageId, request: ChangeRequest) -> Command {
    Command::Change(AcceptedChange {
        id: MessageId::fresh(),
        room,
        sender,
        created_on: NOW,
        receipt_to: None,
        target,
        request,
    })
}

const DELETE: ChangeRequest = ChangeRequest::Delete { as_moderator: true };

/// Commits commands in one transaction.
async fn run(db: &Database, claim: &mut Claim, commands: Vec<Command>) {
    let first = claim.cursor.ms + 1;
    let entries = (first..).zip(commands).map(|(ms, done)| command(ms, done)).collect();
    db.commit(claim, entries).await.unwrap();
}

/// What `room` is for `user`.
async fn state(db: &Database, user: &User, room: RoomId) -> RoomState {
    let states = db.store.room_states(user.id, &[room]).await.unwrap();
    assert_eq!(states.len(), 1);
    states.into_iter().next().unwrap()
}

async fn unread(db: &Database, user: &User, room: RoomId) -> u32 {
    state(db, user, room).await.unread
}

async fn version(db: &Database, user: &User) -> RoomsVersion {
    db.store.user_rooms(user.id).await.unwrap().version
}

async fn mark(db: &Database, user: &User, room: RoomId, seq: i64) -> Option<ReadMark> {
    db.store.set_read(room, user.id, Seq(seq)).await.unwrap()
}

async fn a_user_sees_all_their_rooms_at_one_moment(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let none = db.store.user_rooms(UserId(99)).await.unwrap();
    assert_eq!((none.version, none.removals, none.rooms.len()), (RoomsVersion(0), RemovalCount(0), 0));
    assert!(db.store.user_rooms(ann.id).await.unwrap().rooms.is_empty());
    let (lobby, secret) = (db.room("lobby", &ann).await, db.private_room("secret", &bob).await);
    db.room("other", &ann).await;
    let gone = db.room("gone", &bob).await;
    let membership = db.join(lobby.id, &bob).await.unwrap();
    db.store.delete_room(gone.id, NOW).await.unwrap();
    let mut claim = db.claim().await;
    let ids = db.post(&mut claim, lobby.id, ann.id, &["1", "2"]).await;
    run(&db, &mut claim, vec![change(lobby.id, ann.id, ids[0], DELETE)]).await;

    let of_bob = db.store.user_rooms(bob.id).await.unwrap();
    assert_eq!((of_bob.version, of_bob.removals), (RoomsVersion(3), RemovalCount(1)));
    let rooms: Vec<_> = of_bob.rooms.iter().map(|followed| &followed.room).collect();
    assert_eq!(rooms, [&lobby, &secret]);
    let followed = &of_bob.rooms[0];
    assert_eq!((followed.membership, followed.version, followed.hidden_upto), (membership, RoomsVersion(3), None));
    assert_eq!((followed.head.seq, followed.head.changed), (Seq(3), Seq(3)));
    assert_eq!(db.store.seqs_at(&[lobby.id], followed.position).await.unwrap(), [(lobby.id, Seq(3))]);
    assert_eq!((of_bob.rooms[1].head.seq, of_bob.rooms[1].position), (Seq::ZERO, Position(0)));

    let versions = db.store.rooms_versions(&[bob.id, UserId(99), ann.id]).await.unwrap();
    let of_ann = version(&db, &ann).await;
    assert_eq!(versions.len(), 2);
    assert!(versions.contains(&(bob.id, RoomsVersion(3))) && versions.contains(&(ann.id, of_ann)));
    let states = db.store.room_states(bob.id, &[secret.id, gone.id, lobby.id, RoomId(99)]).await.unwrap();
    let kinds: Vec<_> = states.iter().map(|state| (state.name.as_str(), state.kind, state.role)).collect();
    let room = RoomKind::Room;
    assert_eq!(kinds, [("lobby", room, MemberRole::Member), ("secret", room, MemberRole::Owner)]);
    assert!(db.store.room_states(ann.id, &[secret.id]).await.unwrap().is_empty(), "only own rooms");
}

async fn unread_counts_messages_of_others_that_are_not_deleted(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await.id;
    db.join(room, &bob).await;
    let mut claim = db.claim().await;
    let of_ann = db.post(&mut claim, room, ann.id, &["1", "2", "3"]).await;
    let of_bob = db.post(&mut claim, room, bob.id, &["4", "5"]).await;
    assert_eq!((unread(&db, &ann, room).await, unread(&db, &bob, room).await), (2, 3));
    let text = MessageText::parse("edited").unwrap();
    let edit = ChangeRequest::Edit {
        text,
        oldest: Timestamp(0),
    };
    let changes = vec![
        change(room, ann.id, of_ann[0], edit),
        change(room, ann.id, of_ann[1], DELETE),
        change(room, bob.id, of_bob[0], DELETE),
    ];
    run(&db, &mut claim, changes).await;
    assert_eq!((unread(&db, &ann, room).await, unread(&db, &bob, room).await), (1, 2));
    // Up to a message, between two, at a change, and at the end.
    for (seq, expected) in [(1, 1), (2, 1), (3, 0), (6, 0), (8, 0)] {
        let moved = mark(&db, &bob, room, seq).await.unwrap();
        assert_eq!((moved.seq, moved.moved), (Seq(seq), true));
        assert_eq!(unread(&db, &bob, room).await, expected, "{seq}");
    }
    db.post(&mut claim, room, bob.id, &["9"]).await;
    assert_eq!(unread(&db, &bob, room).await, 0);
    db.post(&mut claim, room, ann.id, &["10"]).await;
    assert_eq!(unread(&db, &bob, room).await, 1);
    let last = state(&db, &bob, room).await;
    assert_eq!((last.head, last.read_seq, last.mentions), (Seq(10), Seq(8), 0));
}

async fn many_unread_messages_are_a_difference(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await.id;
    db.join(room, &bob).await;
    let mut claim = db.claim().await;
    let ids = db.post(&mut claim, room, ann.id, &["x"; 90]).await;
    let deleted = ids[..10].iter().map(|id| change(room, ann.id, *id, DELETE)).collect();
    run(&db, &mut claim, deleted).await;
    db.post(&mut claim, room, bob.id, &["mine"; 10]).await;
    assert_eq!(unread(&db, &bob, room).await, 80, "100 messages: deleted and own ones do not count");
    db.post(&mut claim, room, ann.id, &["x"]).await;
    assert_eq!(unread(&db, &bob, room).await, 101, "101 messages are not looked at one by one");
    mark(&db, &bob, room, 1).await.unwrap();
    assert_eq!(unread(&db, &bob, room).await, 81);
    // The mark on a change counts the messages before it.
    mark(&db, &bob, room, 95).await.unwrap();
    assert_eq!(unread(&db, &bob, room).await, 1);
    db.post(&mut claim, room, ann.id, &["x"; 200]).await;
    assert_eq!(unread(&db, &bob, room).await, 211);
}

async fn a_mark_only_moves_forward(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    assert!(!mark(&db, &ann, room, 5).await.unwrap().moved, "the log is empty");
    db.post(&mut claim, room, bob.id, &["1", "2", "3"]).await;
    let before = version(&db, &ann).await;
    let first = mark(&db, &ann, room, 2).await.unwrap();
    assert_eq!((first.seq, first.moved, first.version), (Seq(2), true, RoomsVersion(before.0 + 1)));
    for seq in [2, 1, 0, -7, i64::MIN] {
        let again = mark(&db, &ann, room, seq).await.unwrap();
        assert_eq!(again, ReadMark { moved: false, ..first }, "{seq}");
    }
    let last = mark(&db, &ann, room, i64::MAX).await.unwrap();
    assert_eq!((last.seq, last.moved), (Seq(3), true), "it ends at the head");
    assert_eq!(version(&db, &ann).await, last.version);
    assert_eq!(mark(&db, &bob, room, 1).await, None, "no member");
    db.store.delete_room(room, NOW).await.unwrap();
    assert_eq!(mark(&db, &ann, room, 3).await, None, "no room");
}

async fn mentions_behind_the_mark_are_counted(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (room, other) = (db.room("lobby", &ann).await.id, db.room("other", &ann).await.id);
    db.join(room, &bob).await;
    let mut claim = db.claim().await;
    let mention = |room, sender: &User| Accepted {
        mentions: vec![bob.id],
        ..message(room, sender.id, "@bob")
    };
    let deleted = mention(room, &ann);
    let id = deleted.id;
    let posts = [
        deleted,
        mention(room, &ann),
        mention(room, &bob),
        mention(other, &ann),
        message(room, ann.id, "x"),
    ];
    run(&db, &mut claim, posts.into_iter().map(Command::Message).collect()).await;
    let counts = async || {
        let state = state(&db, &bob, room).await;
        (state.unread, state.mentions)
    };
    assert_eq!(counts().await, (3, 2), "own ones do not count");
    run(&db, &mut claim, vec![change(room, ann.id, id, DELETE)]).await;
    assert_eq!(counts().await, (2, 1));
    mark(&db, &bob, room, 2).await.unwrap();
    assert_eq!(counts().await, (1, 0));
    let many = (0..105).map(|_| Command::Message(mention(room, &ann))).collect();
    run(&db, &mut claim, many).await;
    assert_eq!(counts().await, (107, 100));
    // Of several rooms each has its own.
    db.join(other, &bob).await;
    run(&db, &mut claim, vec![Command::Message(mention(other, &ann))]).await;
    let states = db.store.room_states(bob.id, &[room, other]).await.unwrap();
    assert_eq!(states.iter().map(|state| state.mentions).collect::<Vec<_>>(), [100, 1]);
    assert_eq!(states.iter().map(|state| state.unread).collect::<Vec<_>>(), [107, 1]);
}

async fn who_joins_has_read_what_was_said_before(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann.id, &["x"; 150]).await;
    assert_eq!(unread(&db, &ann, room).await, 150, "above 100 own ones count");
    db.join(room, &bob).await;
    let joined = state(&db, &bob, room).await;
    assert_eq!((joined.unread, joined.read_seq, joined.head), (0, Seq(150), Seq(150)));
    db.post(&mut claim, room, ann.id, &["x"; 150]).await;
    assert_eq!(unread(&db, &bob, room).await, 150);
    // Who joins again begins anew.
    db.store.leave(room, bob.id, NOW).await.unwrap();
    db.join(room, &bob).await;
    assert_eq!(unread(&db, &bob, room).await, 0);
    let again = state(&db, &bob, room).await;
    assert!(again.joined > joined.joined && again.joined == again.version, "{again:?}");
}

async fn a_membership_begins_at_its_entry(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let new = CreateRoom::public(RoomName::parse("lobby").unwrap(), ann.id);
    let lobby = db.store.create_room(new, NOW).await.unwrap().id;
    let mut claim = db.claim().await;
    let join = async || db.store.join_public(lobby, bob.id, JoinMode::Explicit, NOW).await.unwrap();
    let joins = async |user: &User| db.store.join_seqs(user.id, &[lobby]).await.unwrap();
    assert_eq!(joins(&ann).await, [], "its entry is not stored yet");
    db.post(&mut claim, lobby, ann.id, &["one"]).await;
    assert_eq!(joins(&ann).await, [(lobby, Seq(1))], "she created the room");
    join().await;
    db.post(&mut claim, lobby, bob.id, &["two", "three"]).await;
    let joined = joins(&bob).await;
    assert_eq!(joined, [(lobby, Seq(3))], "behind what was said before");
    // Another membership, of which nothing is stored yet: what was said in between is not for it.
    let later = Timestamp(NOW.0 + 1_000);
    db.store.leave(lobby, bob.id, later).await.unwrap();
    db.store.join_public(lobby, bob.id, JoinMode::Explicit, later).await.unwrap();
    assert_eq!(joins(&bob).await, []);
    let four = Accepted {
        created_on: later,
        ..message(lobby, bob.id, "four")
    };
    db.commit(&mut claim, vec![entry(4, four)]).await.unwrap();
    assert_eq!(joins(&bob).await, [(lobby, Seq(7))], "after three messages, a join and a departure");
}

/// The names of the rooms that `user` lost since.
async fn gone(db: &Database, user: &User, version: RoomsVersion, removals: i64) -> Vec<String> {
    let gone = db.store.gone_rooms(user.id, version, RemovalCount(removals)).await.unwrap();
    gone.into_iter().map(|gone| gone.name).collect()
}

async fn rooms_that_were_lost_are_found_by_version(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (first, second) = (db.room("first", &ann).await.id, db.room("second", &ann).await.id);
    db.join(first, &bob).await;
    db.join(second, &bob).await;
    let joined = version(&db, &bob).await;
    assert!(gone(&db, &bob, RoomsVersion(0), 0).await.is_empty());
    db.store.leave(first, bob.id, NOW).await.unwrap();
    let left_first = version(&db, &bob).await;
    db.store.leave(second, bob.id, NOW).await.unwrap();
    assert_eq!(gone(&db, &bob, joined, 0).await, ["first", "second"]);
    assert_eq!(gone(&db, &bob, left_first, 0).await, ["second"]);
    // Joined again it is lost for who knows the earlier membership alone, and left again it is lost since then.
    db.join(first, &bob).await;
    assert_eq!(gone(&db, &bob, joined, 0).await, ["first", "second"]);
    assert_eq!(gone(&db, &bob, left_first, 0).await, ["second"]);
    let joined_again = version(&db, &bob).await;
    db.store.leave(first, bob.id, NOW).await.unwrap();
    assert_eq!(gone(&db, &bob, joined_again, 0).await, ["first"]);
    assert_eq!(gone(&db, &bob, joined, 0).await, ["first", "second"]);
    // One that was left before it was deleted is lost once.
    db.store.delete_room(second, NOW).await.unwrap();
    assert_eq!(gone(&db, &bob, joined, 0).await, ["first", "second"]);
    // So is one that was joined again before.
    db.join(first, &bob).await;
    db.store.delete_room(first, NOW).await.unwrap();
    assert_eq!(gone(&db, &bob, joined, 0).await, ["first", "second"]);
    let now = db.store.user_rooms(bob.id).await.unwrap();
    assert!(gone(&db, &bob, now.version, now.removals.0).await.is_empty());
}

async fn deleted_rooms_are_found_by_their_removal(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (first, second) = (db.room("first", &ann).await.id, db.room("second", &ann).await.id);
    db.join(first, &bob).await;
    db.join(second, &bob).await;
    let before = db.store.user_rooms(bob.id).await.unwrap();
    db.store.delete_room(first, NOW).await.unwrap();
    let between = db.store.user_rooms(bob.id).await.unwrap();
    assert_eq!((between.version, between.rooms.len()), (before.version, 1), "a deletion changes no member");
    db.store.delete_room(second, NOW).await.unwrap();
    assert_eq!(gone(&db, &bob, before.version, before.removals.0).await, ["first", "second"]);
    assert_eq!(gone(&db, &bob, between.version, between.removals.0).await, ["second"]);
    let after = db.store.user_rooms(bob.id).await.unwrap();
    assert_eq!(after.removals.0, before.removals.0 + 2);
    assert!(gone(&db, &bob, after.version, after.removals.0).await.is_empty());
    // Those that were deleted by an earlier release, before the deletion got a number, are old.
    db.execute("UPDATE rooms SET removal = NULL").await;
    assert!(gone(&db, &bob, before.version, 0).await.is_empty());
}

async fn every_change_has_a_higher_version(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let mut last = version(&db, &bob).await;
    let mut changes = async |changes: bool| {
        let now = version(&db, &bob).await;
        assert_eq!(now.0, last.0 + i64::from(changes));
        let rooms = db.store.user_rooms(bob.id).await.unwrap().rooms;
        let newest = rooms.iter().map(|followed| followed.version).max();
        last = now;
        newest
    };
    let own = db.room("own", &bob).await.id;
    assert_eq!(changes(true).await, Some(RoomsVersion(1)));
    let room = db.room("lobby", &ann).await.id;
    assert_eq!(changes(false).await, Some(RoomsVersion(1)), "others change nothing");
    db.join(room, &bob).await;
    assert_eq!(changes(true).await, Some(RoomsVersion(2)));
    db.join(room, &bob).await;
    assert_eq!(changes(false).await, Some(RoomsVersion(2)), "a member stays what they are");
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann.id, &["1", "2"]).await;
    assert_eq!(changes(false).await, Some(RoomsVersion(2)), "entries change nothing");
    mark(&db, &bob, room, 1).await.unwrap();
    assert_eq!(changes(true).await, Some(RoomsVersion(3)));
    mark(&db, &bob, room, 1).await.unwrap();
    changes(false).await;
    let muted = Notify {
        level: NotifyLevel::None,
        until: Some(NOW),
    };
    for is_new in [true, false] {
        assert!(db.store.set_notify(room, bob.id, muted).await.unwrap());
        assert_eq!(changes(is_new).await, Some(RoomsVersion(4)));
    }
    db.store.leave(room, bob.id, NOW).await.unwrap();
    assert_eq!(changes(true).await, Some(RoomsVersion(1)), "the room is gone");
    db.store.leave(room, bob.id, NOW).await.unwrap();
    changes(false).await;
    db.store.delete_room(own, NOW).await.unwrap();
    changes(false).await;
}

async fn changes_of_an_earlier_release_get_versions(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann.id, &["1", "2"]).await;
    db.execute(
        "INSERT INTO members (room_id, user_id, joined_on, id) SELECT 1, id, 1, 7 FROM users WHERE username = 'bob'",
    )
    .await;
    let joined = db.store.user_rooms(bob.id).await.unwrap();
    assert_eq!((joined.version, joined.rooms[0].version), (RoomsVersion(1), RoomsVersion(1)));
    assert_eq!(state(&db, &bob, room).await.read_seq, Seq(2));
    db.execute("DELETE FROM members WHERE id = 7").await;
    assert_eq!(gone(&db, &bob, joined.version, 0).await, ["lobby"]);
    assert_eq!(version(&db, &bob).await, RoomsVersion(2));
    db.execute("UPDATE rooms SET deleted_on = 1").await;
    assert_eq!(gone(&db, &ann, version(&db, &ann).await, 1).await, ["lobby"]);
}

async fn a_change_that_is_rolled_back_has_no_version(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await.id;
    // The entry of joining cannot be written.
    db.execute("ALTER TABLE outbox RENAME TO elsewhere").await;
    db.store.join_public(room, bob.id, JoinMode::ByName, NOW).await.unwrap_err();
    db.store.leave(room, ann.id, NOW).await.unwrap_err();
    db.execute("ALTER TABLE elsewhere RENAME TO outbox").await;
    assert_eq!((version(&db, &bob).await, version(&db, &ann).await), (RoomsVersion(0), RoomsVersion(1)));
    assert!(gone(&db, &ann, RoomsVersion(0), 0).await.is_empty());
}

async fn settings_for_notifications_are_kept(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await.id;
    assert_eq!(state(&db, &ann, room).await.notify, Notify::ALL);
    let (until, mut last) = (Some(Timestamp(NOW.0 + 1)), Notify::ALL);
    for level in NotifyLevel::EVERY {
        for until in [until, None] {
            last = Notify { level, until };
            assert!(db.store.set_notify(room, ann.id, last).await.unwrap());
            assert_eq!(state(&db, &ann, room).await.notify, last);
        }
    }
    assert!(!db.store.set_notify(room, bob.id, last).await.unwrap(), "no member");
    db.store.delete_room(room, NOW).await.unwrap();
    assert!(!db.store.set_notify(room, ann.id, last).await.unwrap(), "no room");
}

async fn rooms_are_listed_by_their_latest_entry(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let mut rooms = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        rooms.push(db.room(name, &ann).await.id);
    }
    db.room("of-bob", &bob).await;
    let mut claim = db.claim().await;
    for room in [2, 0, 1, 0] {
        db.post(&mut claim, rooms[room], bob.id, &["x"]).await;
    }
    let page = async |before, limit| {
        let states = db.store.rooms_by_activity(ann.id, before, limit).await.unwrap();
        let names: Vec<String> = states.iter().map(|state| state.name.clone()).collect();
        (names.join(""), states.last().map(|state| (state.last_activity, state.room)))
    };
    // Those without an entry are the last, the newest of them first.
    assert_eq!(page(None, 10).await.0, "abced");
    let (first, next) = page(None, 2).await;
    let (second, next) = page(next, 2).await;
    let (third, next) = page(next, 2).await;
    assert_eq!([first, second, third], ["ab", "ce", "d"]);
    assert_eq!(page(next, 2).await, (String::new(), None));
    let all = db.store.rooms_by_activity(ann.id, None, 10).await.unwrap();
    assert_eq!(all.iter().map(|state| state.unread).collect::<Vec<_>>(), [2, 1, 1, 0, 0]);
    db.store.delete_room(rooms[0], NOW).await.unwrap();
    assert_eq!(page(None, 10).await.0, "bced");
}
