//! The longest and strangest valid values: both databases store them and sort them in the same order.

use shared::domain::{Email, MessageId, MessageText, PublicId, RoomName, Seq, Username};
use shared::storage::{CreateRoom, NewUser, Window};

use crate::support::{Database, NOW, entry, message, messages as stored_messages, on_both_back_ends, page, seqs};

on_both_back_ends![
    the_longest_values_can_be_stored,
    names_are_sorted_by_their_bytes,
    a_full_batch_is_stored_in_order,
    stored_seqs_are_found_by_id,
];

async fn the_longest_values_can_be_stored(db: Database) {
    let mut user = NewUser::for_tests("ann");
    user.username = Username::parse(&"🦀".repeat(Username::MAX_LEN)).unwrap();
    user.email = Email::parse(&"ä".repeat(Email::MAX_LEN), false).unwrap();
    let ann = db.store.create_user(user.clone(), NOW).await.unwrap();
    assert_eq!((ann.username.as_str(), ann.email.as_str()), (user.username.as_str(), user.email.as_str()));
    let name = RoomName::parse(&"x".repeat(RoomName::MAX_LEN)).unwrap();
    let room = db.store.create_room(CreateRoom::public(name.clone(), ann.id), NOW).await.unwrap();
    assert_eq!(db.store.room_by_name(&name).await.unwrap(), Some(room.clone()));
    let text = "🦀".repeat(MessageText::MAX_LEN);
    let mut claim = db.claim().await;
    db.post(&mut claim, room.id, ann.id, &[&text]).await;
    let page = page(&db.store, room.id, ann.id, Window::After(Seq::ZERO), 1).await.unwrap();
    assert_eq!(
        (page.messages[0].text.as_str(), page.messages[0].username.as_str()),
        (text.as_str(), ann.username.as_str())
    );
}

async fn names_are_sorted_by_their_bytes(db: Database) {
    // Every locale would sort these in another order.
    let sorted = ["B", "_b", "a", "a-b", "ab", "ß", "ä", "Ω", "名", "🦀"];
    let owner = db.user("z").await;
    let room = db.room("lobby", &owner).await.id;
    for name in sorted.iter().rev() {
        let mut user = NewUser::for_tests("z");
        user.username = Username::parse(name).unwrap();
        user.email = Email::parse(name, false).unwrap();
        user.public_id = PublicId::parse(&uuid::Uuid::new_v4().to_string()).unwrap();
        let user = db.store.create_user(user, NOW).await.unwrap();
        assert!(db.join(room, &user).await.is_some());
    }
    db.store.leave(room, owner.id, NOW).await.unwrap();
    assert_eq!(db.store.list_members(room, owner.id, "", 100).await.unwrap(), sorted);
    assert_eq!(db.store.list_members(room, owner.id, "ab", 2).await.unwrap(), ["ß", "ä"]);

    let sorted = ["-", "0", "A", "B", "_", "a-b", "a.b", "ab"];
    for name in sorted.iter().rev() {
        db.room(name, &owner).await;
    }
    let rooms = db.store.list_rooms(owner.id, "", 100).await.unwrap();
    assert_eq!(rooms.iter().filter(|name| *name != "lobby").collect::<Vec<_>>(), sorted.iter().collect::<Vec<_>>());
}

async fn a_full_batch_is_stored_in_order(db: Database) {
    const ROWS: i64 = 500;
    let ann = db.user("ann").await;
    let rooms = [db.room("a", &ann).await.id, db.room("b", &ann).await.id];
    let mut claim = db.claim().await;
    let room_of = |n: i64| rooms[usize::try_from(n % 3 % 2).unwrap()];
    let entries = (1..=ROWS).map(|n| entry(n, message(room_of(n), ann.id, &n.to_string()))).collect();
    let committed = db.commit(&mut claim, entries).await.unwrap();
    for room in rooms {
        let expected: Vec<String> = (1..=ROWS).filter(|n| room_of(*n) == room).map(|n| n.to_string()).collect();
        let count = i64::try_from(expected.len()).unwrap();
        assert_eq!(seqs(&committed, room), (1..=count).map(Seq).collect::<Vec<_>>());
        let mut texts = Vec::new();
        // It reads in pages, as a stream that is far behind does.
        while let Ok(messages) = db.store.entries_after(room, Seq(i64::try_from(texts.len()).unwrap()), 100).await {
            if messages.is_empty() {
                break;
            }
            texts.extend(stored_messages(messages).into_iter().map(|message| message.text));
        }
        assert_eq!(texts, expected);
    }
    assert_eq!(db.positions_grow_with_seqs().await, ROWS);
}

async fn stored_seqs_are_found_by_id(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let ids = db.post(&mut claim, room, ann.id, &["1", "2", "3"]).await;
    let asked = [ids[2], MessageId::fresh(), ids[0]];
    let stored = db.store.stored_seqs(&asked).await.unwrap();
    assert_eq!(stored, [(ids[2], Seq(3)), (ids[0], Seq(1))].into());
    assert!(db.store.stored_seqs(&[]).await.unwrap().is_empty());
}
