//! Direct rooms: two users have one, nobody else sees it, and it is hidden instead of left.

use futures_util::future::join_all;
use shared::domain::{Command, MemberRole, RoomId, RoomKind, RoomName, RoomsVersion, Seq};
use shared::storage::{CreateRoom, JoinMode, JoinOutcome, Role, Room, Store, User};

use crate::changes::{DELETE, change, edit, react};
use crate::support::{Database, NOW, command, entry, hint, message, on_both_back_ends};

on_both_back_ends![
    two_users_have_one_direct_room,
    calls_from_both_sides_at_once_make_one_room,
    nobody_else_sees_a_direct_room,
    a_hidden_room_comes_back_with_its_next_message,
    direct_rooms_are_listed_by_the_other_member,
    partners_are_those_of_direct_rooms_that_nobody_hides,
    the_log_begins_with_both_members,
];

async fn direct(store: &Store, creator: &User, other: &User) -> (Room, bool) {
    store.direct_room(creator.id, other.id, RoomName::fresh_direct(), NOW).await.unwrap()
}

async fn two_users_have_one_direct_room(db: Database) {
    let (ann, bob, cid) = (db.user("ann").await, db.user("bob").await, db.user("cid").await);
    let (room, created) = direct(&db.store, &ann, &bob).await;
    assert!(created && room.is_private && room.kind == RoomKind::Direct && room.owner_id == ann.id);
    assert!(RoomName::parse(&room.name).unwrap().is_direct());
    for (one, other) in [(&ann, &bob), (&bob, &ann)] {
        assert_eq!(direct(&db.store, one, other).await, (room.clone(), false));
        let rooms = db.store.user_rooms(one.id).await.unwrap();
        assert_eq!((rooms.version, rooms.rooms.len(), &rooms.rooms[0].room), (RoomsVersion(1), 1, &room));
        let state = &db.store.room_states(one.id, &[room.id]).await.unwrap()[0];
        assert_eq!((state.kind, state.role), (RoomKind::Direct, MemberRole::Member));
        assert_eq!(state.with.as_deref(), Some(other.username.as_str()));
    }
    let (other, created) = direct(&db.store, &cid, &bob).await;
    assert!(created && other.id != room.id && other.name != room.name);
    let name = RoomName::parse(&room.name).unwrap();
    assert_eq!(db.store.room_by_name(&name).await.unwrap(), Some(room));
    // They do not count as rooms that a user owns.
    let own = CreateRoom::public(RoomName::parse("own").unwrap(), ann.id);
    db.store.create_room_within(1, own, NOW).await.unwrap();
}

async fn calls_from_both_sides_at_once_make_one_room(db: Database) {
    const TRIALS: usize = 1_000;
    let other_gateway = Store::open(&db.url, Role::Gateway).await.unwrap();
    let ann = db.user("ann").await;
    let mut users = Vec::new();
    for number in 0..TRIALS {
        users.push(db.user(&format!("user-{number}")).await);
    }
    for bob in &users {
        let calls = [(&db.store, &ann, bob), (&other_gateway, bob, &ann)];
        let made = join_all(calls.map(|(store, one, other)| direct(store, one, other))).await;
        assert_eq!(made[0].0, made[1].0);
        assert_eq!(made.iter().filter(|(_, created)| *created).count(), 1);
    }
    assert_eq!(db.store.user_rooms(ann.id).await.unwrap().rooms.len(), TRIALS);
    other_gateway.close().await;
}

async fn nobody_else_sees_a_direct_room(db: Database) {
    let (ann, bob, cid) = (db.user("ann").await, db.user("bob").await, db.user("cid").await);
    let (room, _) = direct(&db.store, &ann, &bob).await;
    for user in [&ann, &bob, &cid] {
        assert!(db.store.list_rooms(user.id, "", 10).await.unwrap().is_empty(), "it is in no list of names");
    }
    assert_eq!(db.store.list_members(room.id, bob.id, "", 10).await.unwrap(), ["ann", "bob"]);
    assert!(db.store.list_members(room.id, cid.id, "", 10).await.unwrap().is_empty());
    for mode in [JoinMode::ByName, JoinMode::Explicit] {
        let joined = db.store.join_public(room.id, cid.id, mode, NOW).await.unwrap();
        assert_eq!(joined, JoinOutcome::NotFound);
        assert!(matches!(db.store.join_public(room.id, bob.id, mode, NOW).await, Ok(JoinOutcome::Member(_))));
    }
    assert!(!db.store.hide_direct(room.id, cid.id).await.unwrap());
    for user in [&ann, &bob] {
        assert_eq!(db.store.leave(room.id, user.id, NOW).await.unwrap(), None, "nobody leaves it");
        assert!(db.store.membership(room.id, user.id).await.unwrap().is_some());
    }
    let lobby = db.room("lobby", &ann).await.id;
    assert!(!db.store.hide_direct(lobby, ann.id).await.unwrap(), "only direct rooms are hidden");
}

async fn a_hidden_room_comes_back_with_its_next_message(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (room, _) = direct(&db.store, &ann, &bob).await;
    let mut claim = db.claim().await;
    let shown = async |user: &User| {
        let by_activity = db.store.rooms_by_activity(user.id, None, 10).await.unwrap().len();
        let direct = db.store.direct_rooms(user.id, "", 10).await.unwrap().len();
        assert_eq!(by_activity, direct);
        let followed = &db.store.user_rooms(user.id).await.unwrap().rooms[0];
        assert_eq!(direct == 1, !followed.is_hidden);
        assert_eq!(db.store.room_states(user.id, &[room.id]).await.unwrap().len(), 1, "states have hidden ones too");
        direct == 1
    };
    let version = db.store.user_rooms(bob.id).await.unwrap().version;
    assert!(db.store.hide_direct(room.id, bob.id).await.unwrap());
    assert_eq!(db.store.user_rooms(bob.id).await.unwrap().version.0, version.0 + 1);
    // What the outbox still had is no news.
    db.commit(&mut claim, vec![command(1, hint(room.id))]).await.unwrap();
    assert_eq!((shown(&bob).await, shown(&ann).await), (false, true));
    let hello = db.post(&mut claim, room.id, ann.id, &["hello"]).await;
    assert!(shown(&bob).await);
    let state = &db.store.room_states(bob.id, &[room.id]).await.unwrap()[0];
    assert_eq!((state.unread, state.head), (1, Seq(3)));
    assert!(db.store.hide_direct(room.id, bob.id).await.unwrap());
    assert!(!shown(&bob).await);
    // What becomes of an earlier message brings it back for nobody.
    for request in [react("👍", true), edit("hello again"), DELETE] {
        let changed = Command::Change(change(room.id, ann.id, hello[0], request));
        let at = claim.cursor.ms + 1;
        let committed = db.commit(&mut claim, vec![command(at, changed)]).await.unwrap();
        assert_eq!(committed.rooms[0].entries.len(), 1);
        assert!(!shown(&bob).await);
    }
    // The user opens it again.
    assert!(!direct(&db.store, &ann, &bob).await.1);
    assert!(!shown(&bob).await, "not when the other one does");
    assert!(!direct(&db.store, &bob, &ann).await.1);
    assert!(shown(&bob).await);
}

async fn direct_rooms_are_listed_by_the_other_member(db: Database) {
    let ann = db.user("ann").await;
    db.room("lobby", &ann).await;
    for name in ["dan", "bob", "eve", "cid"] {
        let other = db.user(name).await;
        direct(&db.store, &other, &ann).await;
    }
    let page = async |after: &str, limit| {
        let states = db.store.direct_rooms(ann.id, after, limit).await.unwrap();
        states.into_iter().filter_map(|state| state.with).collect::<Vec<_>>()
    };
    assert_eq!(page("", 10).await, ["bob", "cid", "dan", "eve"]);
    assert_eq!(page("", 2).await, ["bob", "cid"]);
    assert_eq!(page("cid", 2).await, ["dan", "eve"]);
    assert!(page("eve", 2).await.is_empty());
}

async fn partners_are_those_of_direct_rooms_that_nobody_hides(db: Database) {
    let (ann, bob, cid, dan) = (db.user("ann").await, db.user("bob").await, db.user("cid").await, db.user("dan").await);
    let lobby = db.room("lobby", &ann).await.id;
    db.join(lobby, &dan).await;
    let (with_bob, _) = direct(&db.store, &ann, &bob).await;
    let (with_cid, _) = direct(&db.store, &cid, &ann).await;
    let mut claim = db.claim().await;
    db.post(&mut claim, with_cid.id, cid.id, &["hello"]).await;
    db.post(&mut claim, with_bob.id, ann.id, &["hello"]).await;
    let partners = async |users: &[&User], limit| {
        let users: Vec<_> = users.iter().map(|user| user.id).collect();
        let partners = db.store.direct_partners(&users, limit).await.unwrap();
        partners.into_iter().map(|partner| (partner.user, partner.username)).collect::<Vec<_>>()
    };
    let (bob_of_ann, cid_of_ann) = ((ann.id, "bob".to_owned()), (ann.id, "cid".to_owned()));
    let ann_of = |user: &User| (user.id, "ann".to_owned());
    let opened = [cid_of_ann.clone(), ann_of(&bob)];
    assert_eq!(partners(&[&ann, &bob, &cid, &dan], 10).await, opened, "nobody has read");
    for (room, user) in [(&with_bob, &bob), (&with_cid, &ann)] {
        db.store.set_read(room.id, user.id, Seq(1)).await.unwrap();
    }
    let all = [bob_of_ann.clone(), cid_of_ann.clone(), ann_of(&bob), ann_of(&cid)];
    assert_eq!(partners(&[&ann, &bob, &cid, &dan], 10).await, all);
    assert_eq!(partners(&[&ann], 1).await, [bob_of_ann], "the latest entry is there");
    // Whoever hides the room is not seen either.
    assert!(db.store.hide_direct(with_bob.id, bob.id).await.unwrap());
    assert_eq!(partners(&[&ann, &bob], 10).await, [cid_of_ann]);
}

async fn the_log_begins_with_both_members(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (room, _) = direct(&db.store, &ann, &bob).await;
    let mut claim = db.claim().await;
    // No hint about the outbox came before the first message.
    let committed = db.commit(&mut claim, vec![entry(1, message(room.id, bob.id, "hello"))]).await.unwrap();
    assert_eq!(committed.rooms[0].entries.len(), 3);
    assert_eq!(committed.rooms[0].entries[2].seq(), Seq(3));
    assert!(db.store.rooms_in_outbox(RoomId(0), 10).await.unwrap().is_empty());
    let next = vec![command(2, Command::Message(message(room.id, ann.id, "hi")))];
    assert_eq!(db.commit(&mut claim, next).await.unwrap().rooms[0].entries[0].seq(), Seq(4));
}
