//! Rooms, their members, and names of deleted rooms.

use std::time::Duration;

use shared::domain::{Epoch, RoomName, Seq, Timestamp, UserId};
use shared::storage::{CreateRoom, CreateRoomError, JoinMode, JoinOutcome, Room, User};

use crate::support::{Database, NOW, on_both_back_ends};

on_both_back_ends![
    a_new_room_has_its_owner_as_member,
    a_public_room_is_joined_and_left,
    only_members_see_a_private_room,
    a_deleted_room_and_its_successor_are_different_rooms,
    heads_of_several_rooms_are_read_at_once,
    name_of_a_deleted_room_is_reserved_for_its_owner,
    former_members_of_another_room_must_join_explicitly,
];

fn name(raw: &str) -> RoomName {
    RoomName::parse(raw).unwrap()
}

async fn a_new_room_has_its_owner_as_member(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await;
    assert_eq!(db.store.room_by_name(&name("lobby")).await.unwrap(), Some(room.clone()));
    assert!(db.store.room_by_name(&name("Lobby")).await.unwrap().is_none());
    assert!(db.store.membership(room.id, ann.id).await.unwrap().is_some());
    assert!(db.store.membership(room.id, bob.id).await.unwrap().is_none());
    let again = db.store.create_room(CreateRoom::public(name("lobby"), bob.id), NOW).await;
    assert!(matches!(again, Err(CreateRoomError::Exists)));
}

async fn a_public_room_is_joined_and_left(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &ann).await;
    let of_bob = db.join(room.id, &bob).await.unwrap();
    assert_eq!(db.join(room.id, &bob).await, Some(of_bob), "joining twice is one membership");
    assert_eq!(db.store.list_members(room.id, bob.id, "", 10).await.unwrap(), ["ann", "bob"]);
    assert_eq!(db.store.list_members(room.id, bob.id, "ann", 10).await.unwrap(), ["bob"]);
    assert_eq!(db.store.list_members(room.id, bob.id, "", 1).await.unwrap(), ["ann"]);
    let pairs = [(room.id, ann.id), (room.id, bob.id)];
    let of_ann = db.store.membership(room.id, ann.id).await.unwrap().unwrap();
    let both = [(pairs[0], of_ann), (pairs[1], of_bob)];
    assert_eq!(db.store.memberships_among(&pairs).await.unwrap(), both.into());
    for ended in [Some(of_bob), None] {
        assert_eq!(db.store.leave(room.id, bob.id, NOW).await.unwrap(), ended);
    }
    assert_eq!(db.store.memberships_among(&pairs).await.unwrap(), [(pairs[0], of_ann)].into());
    assert_eq!(db.store.membership(room.id, bob.id).await.unwrap(), None);
    let again = db.join(room.id, &bob).await;
    assert!(again.is_some_and(|again| again != of_bob), "joining again is another membership");
}

async fn only_members_see_a_private_room(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.private_room("secret", &ann).await;
    db.room("lobby", &ann).await;
    let of_ann = db.store.membership(room.id, ann.id).await.unwrap();
    assert!(of_ann.is_some());
    assert_eq!(db.join(room.id, &ann).await, of_ann);
    assert_eq!(db.join(room.id, &bob).await, None);
    assert_eq!(db.store.list_members(room.id, ann.id, "", 10).await.unwrap(), ["ann"]);
    assert!(db.store.list_members(room.id, bob.id, "", 10).await.unwrap().is_empty());
    assert_eq!(db.store.list_rooms(ann.id, "", 10).await.unwrap(), ["lobby", "secret"]);
    assert_eq!(db.store.list_rooms(bob.id, "", 10).await.unwrap(), ["lobby"]);
    assert_eq!(db.store.list_rooms(ann.id, "lobby", 10).await.unwrap(), ["secret"]);
    assert_eq!(db.store.list_rooms(ann.id, "", 1).await.unwrap(), ["lobby"]);
}

async fn a_deleted_room_and_its_successor_are_different_rooms(db: Database) {
    let ann = db.user("ann").await;
    let first = db.room("lobby", &ann).await;
    assert!(db.store.delete_room(first.id, NOW).await.unwrap());
    assert!(!db.store.delete_room(first.id, NOW).await.unwrap());
    assert!(db.store.room_by_name(&name("lobby")).await.unwrap().is_none());
    assert!(db.store.list_rooms(ann.id, "", 10).await.unwrap().is_empty());
    assert_eq!(db.store.membership(first.id, ann.id).await.unwrap(), None);
    assert!(db.store.list_members(first.id, ann.id, "", 10).await.unwrap().is_empty());
    assert_eq!(db.join(first.id, &ann).await, None);
    assert!(db.store.memberships_among(&[(first.id, ann.id)]).await.unwrap().is_empty());
    let second = db.room("lobby", &ann).await;
    assert_ne!(second.id, first.id);
    let epochs = |room: &Room| [room.epoch(Epoch(77)), room.former_epoch(Epoch(77))];
    assert_eq!([epochs(&first)[1], epochs(&second)[1]], [Epoch(77), Epoch(78)]);
    let are_foreign = epochs(&first).iter().all(|epoch| !epochs(&second).contains(epoch));
    assert!(are_foreign, "a cursor of the first room must be foreign in the second");
}

async fn heads_of_several_rooms_are_read_at_once(db: Database) {
    let ann = db.user("ann").await;
    let (busy, silent) = (db.room("busy", &ann).await, db.room("silent", &ann).await);
    let mut claim = db.claim().await;
    db.post(&mut claim, busy.id, UserId(ann.id.0), &["1", "2"]).await;
    let heads = db.store.heads(&[busy.id, silent.id]).await.unwrap();
    for room in [busy.id, silent.id] {
        assert_eq!(db.store.head(room).await.unwrap(), heads[&room]);
    }
    assert_eq!((heads[&busy.id].seq, heads[&silent.id].seq), (Seq(2), Seq::ZERO));
}

async fn name_of_a_deleted_room_is_reserved_for_its_owner(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let day = Duration::from_hours(24);
    let create = async |user: &User, now: Timestamp, reserved: bool| {
        let new = CreateRoom {
            reserved_since: reserved.then(|| now.minus(30 * day)),
            ..CreateRoom::public(name("lobby"), user.id)
        };
        db.store.create_room(new, now).await
    };
    let first = create(&ann, NOW, true).await.unwrap();
    assert!(matches!(create(&bob, NOW, true).await, Err(CreateRoomError::Exists)));
    db.store.delete_room(first.id, NOW).await.unwrap();
    assert!(matches!(create(&bob, NOW.plus(29 * day), true).await, Err(CreateRoomError::Reserved)));
    let second = create(&ann, NOW.plus(29 * day), true).await.unwrap();
    db.store.delete_room(second.id, NOW.plus(29 * day)).await.unwrap();
    assert!(matches!(create(&bob, NOW.plus(58 * day), true).await, Err(CreateRoomError::Reserved)));
    // The time has passed. Before that, a call without a reservation ignores it.
    let third = create(&bob, NOW.plus(60 * day), true).await.unwrap();
    db.store.delete_room(third.id, NOW.plus(60 * day)).await.unwrap();
    let fourth = create(&ann, NOW.plus(61 * day), false).await.unwrap();
    db.store.delete_room(fourth.id, NOW.plus(61 * day)).await.unwrap();
    // The reservation is for the last owner.
    assert!(matches!(create(&bob, NOW.plus(62 * day), true).await, Err(CreateRoomError::Reserved)));
    // It also holds for the name in another case.
    let new = CreateRoom {
        reserved_since: Some(NOW.plus(32 * day)),
        ..CreateRoom::public(name("LOBBY"), bob.id)
    };
    let by_bob = db.store.create_room(new.clone(), NOW.plus(62 * day)).await;
    assert!(matches!(by_bob, Err(CreateRoomError::Reserved)));
    let by_ann = CreateRoom { owner: ann.id, ..new };
    db.store.create_room(by_ann, NOW.plus(62 * day)).await.unwrap();
}

async fn former_members_of_another_room_must_join_explicitly(db: Database) {
    let (ann, bob, carl) = (db.user("ann").await, db.user("bob").await, db.user("carl").await);
    let outcome = async |room: &Room, user: &User, mode| db.store.join_public(room.id, user.id, mode, NOW).await;
    let by_name = async |room: &Room, user: &User| outcome(room, user, JoinMode::ByName).await.unwrap();
    let first = db.room("lobby", &ann).await;
    db.join(first.id, &bob).await.unwrap();
    db.store.delete_room(first.id, NOW).await.unwrap();
    // A new room of the same owner is for the same members.
    let again = db.room("lobby", &ann).await;
    assert!(matches!(by_name(&again, &bob).await, JoinOutcome::Member(_)));
    db.store.delete_room(again.id, NOW).await.unwrap();

    let of_carl = db.room("lobby", &carl).await;
    assert_eq!(by_name(&of_carl, &bob).await, JoinOutcome::Replaced);
    assert_eq!(by_name(&of_carl, &ann).await, JoinOutcome::Replaced);
    let dora = db.user("dora").await;
    assert!(matches!(by_name(&of_carl, &dora).await, JoinOutcome::Member(_)), "she was in no other room");
    assert!(matches!(outcome(&of_carl, &bob, JoinMode::Explicit).await.unwrap(), JoinOutcome::Member(_)));
    assert!(matches!(by_name(&of_carl, &bob).await, JoinOutcome::Member(_)));

    let secret = db.private_room("cellar", &ann).await;
    db.store.delete_room(secret.id, NOW).await.unwrap();
    let open = db.room("cellar", &ann).await;
    assert!(matches!(by_name(&open, &ann).await, JoinOutcome::Member(_)), "she made it");
    db.store.leave(open.id, ann.id, NOW).await.unwrap();
    assert_eq!(by_name(&open, &ann).await, JoinOutcome::Replaced, "what was private is public");
}
