//! Pages of history, and lookups of messages by id.

use shared::domain::{MessageId, RoomId, Seq, UserId};
use shared::storage::{KnownPage, Window};

use crate::support::{Database, NOW, Page, on_both_back_ends, page};

on_both_back_ends![
    a_window_selects_a_part_of_the_history,
    a_page_skips_missing_messages,
    messages_that_the_caller_has_are_not_read,
    a_message_is_read_back_as_it_was_accepted,
    any_text_is_read_back_unchanged,
    a_message_is_found_by_id_only_in_its_room,
    only_users_who_see_the_room_read_its_history,
    stored_messages_are_found_by_id,
    newest_messages_of_many_rooms_are_read_at_once,
];

/// A room with the messages 1 to 10 from ann.
async fn ten(db: Database) -> (Database, RoomId, UserId, Vec<MessageId>) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let texts = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
    let ids = db.post(&mut claim, room, ann.id, &texts).await;
    (db, room, ann.id, ids)
}

fn seqs(page: &Page) -> Vec<i64> {
    page.messages.iter().map(|message| message.seq.0).collect()
}

async fn a_window_selects_a_part_of_the_history(db: Database) {
    let (db, room, ann, _) = ten(db).await;
    let read = async |window, limit| seqs(&page(&db.store, room, ann, window, limit).await.unwrap());
    assert_eq!(read(Window::Before(Seq(i64::MAX)), 3).await, [8, 9, 10]);
    assert_eq!(read(Window::Before(Seq(3)), 100).await, [1, 2]);
    assert_eq!(read(Window::After(Seq(7)), 2).await, [8, 9]);
    assert!(read(Window::After(Seq(10)), 2).await.is_empty());
    assert_eq!(read(Window::Between(Seq(2), Seq(9)), 3).await, [6, 7, 8]);
    assert!(read(Window::Before(Seq(0)), 3).await.is_empty());
}

async fn a_page_skips_missing_messages(db: Database) {
    let (db, room, ann, _) = ten(db).await;
    db.execute("DELETE FROM messages WHERE seq IN (3, 6, 7, 8, 9)").await;
    let read = async |window, limit| seqs(&page(&db.store, room, ann, window, limit).await.unwrap());
    assert_eq!(read(Window::Before(Seq(i64::MAX)), 3).await, [4, 5, 10]);
    assert_eq!(read(Window::Before(Seq(10)), 3).await, [2, 4, 5]);
    assert_eq!(read(Window::Between(Seq(3), Seq(10)), 3).await, [4, 5]);
    assert!(read(Window::Between(Seq(5), Seq(10)), 3).await.is_empty());
    assert_eq!(read(Window::After(Seq(2)), 3).await, [4, 5, 10]);
}

async fn messages_that_the_caller_has_are_not_read(db: Database) {
    let (db, room, ann, _) = ten(db).await;
    let window = Window::Before(Seq(i64::MAX));
    let read = async |known| {
        let news = db.store.history_page(room, Some(ann), window, 3, known).await.unwrap().unwrap();
        (news.head.seq, news.messages.map(|messages| messages.len()))
    };
    let known = |heads| {
        let changed = Seq::ZERO;
        Some(KnownPage { heads, changed })
    };
    assert_eq!(read(None).await, (Seq(10), Some(3)));
    assert_eq!(read(known(Seq(9)..=Seq(9))).await, (Seq(10), Some(3)));
    assert_eq!(read(known(Seq(10)..=Seq(10))).await, (Seq(10), None));
    assert_eq!(read(known(Seq(9)..=Seq(i64::MAX))).await, (Seq(10), None));
}

async fn a_message_is_read_back_as_it_was_accepted(db: Database) {
    let (db, room, ann, ids) = ten(db).await;
    let page = page(&db.store, room, ann, Window::Before(Seq(3)), 1).await.unwrap();
    let message = &page.messages[0];
    assert_eq!((page.head, message.seq, message.id), (Seq(10), Seq(2), ids[1]));
    assert_eq!((message.username.as_str(), message.kind.as_str(), message.text.as_str()), ("ann", "MESSAGE", "2"));
    assert_eq!(message.created_on, NOW);
}

async fn any_text_is_read_back_unchanged(db: Database) {
    let (db, room, ann, _) = ten(db).await;
    let texts = [
        "\"quoted\" \\ / \u{1}\u{7f}",
        "\r\n\n data: x",
        "🦀 \u{2028} \u{FEFF}",
        "[1, {\"a\": null}]",
        " ",
    ];
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann, &texts).await;
    let page = page(&db.store, room, ann, Window::After(Seq(10)), 10).await.unwrap();
    let read: Vec<&str> = page.messages.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(read, texts);
}

async fn a_message_is_found_by_id_only_in_its_room(db: Database) {
    let (db, room, ann, ids) = ten(db).await;
    let read = async |room, id| seqs(&page(&db.store, room, ann, Window::Only(id), 100).await.unwrap());
    assert_eq!(read(room, ids[6]).await, [7]);
    assert!(read(room, MessageId::fresh()).await.is_empty());
    let owner = db.store.list_users("", 1).await.unwrap().remove(0);
    let other = db.room("other", &owner).await.id;
    assert!(read(other, ids[6]).await.is_empty());
}

async fn stored_messages_are_found_by_id(db: Database) {
    let (db, room, _, ids) = ten(db).await;
    let known = db.store.known_messages(&[ids[0], MessageId::fresh(), ids[2]]).await.unwrap();
    assert_eq!(known.len(), 2);
    for (id, seq, text) in [(ids[0], 1, "1"), (ids[2], 3, "3")] {
        let stored = &known[&id];
        let place = (stored.seq, stored.room, stored.room_name.as_str(), stored.room_is_deleted);
        assert_eq!(place, (Seq(seq), room, "lobby", false));
        assert!(stored.was_posted_with(text) && !stored.was_posted_with("2"));
    }
}

async fn only_users_who_see_the_room_read_its_history(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let secret = db.private_room("secret", &ann).await.id;
    let public = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    for room in [secret, public] {
        db.post(&mut claim, room, ann.id, &["x"]).await;
    }
    let read =
        async |room, user| page(&db.store, room, user, Window::After(Seq::ZERO), 10).await.map(|page| seqs(&page));
    assert_eq!(read(secret, ann.id).await, Some(vec![1]));
    assert_eq!(read(secret, bob.id).await, None);
    assert_eq!(read(public, bob.id).await, Some(vec![1]));
    for (room, is_shown) in [(public, true), (secret, false)] {
        let news = db.store.history_page(room, None, Window::After(Seq::ZERO), 10, None).await.unwrap();
        assert_eq!(news.is_some(), is_shown, "to anybody");
    }
    assert_eq!(read(RoomId(999), ann.id).await, None);
    db.store.delete_room(public, NOW).await.unwrap();
    assert_eq!(read(public, ann.id).await, None);
    db.store.leave(secret, ann.id, NOW).await.unwrap();
    assert_eq!(read(secret, ann.id).await, None);
    assert_eq!(db.store.entries_after(secret, Seq::ZERO, 10).await.unwrap().len(), 1);
}

async fn newest_messages_of_many_rooms_are_read_at_once(db: Database) {
    let (db, room, ann, _) = ten(db).await;
    let user = db.user("bob").await;
    let (other, empty) = (db.room("other", &user).await.id, db.room("empty", &user).await.id);
    let mut claim = db.claim().await;
    db.post(&mut claim, other, ann, &["a"]).await;
    let newest = db.store.newest_messages(&[room, other, empty], 3).await.unwrap();
    let texts = |room: RoomId| newest[&room].iter().map(|message| message.text.as_str()).collect::<Vec<_>>();
    assert_eq!((texts(room), texts(other), texts(empty)), (vec!["8", "9", "10"], vec!["a"], vec![]));
    assert!(db.store.newest_messages(&[], 3).await.unwrap().is_empty());
}
