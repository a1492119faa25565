//! Commits of the worker: seqs, duplicates, dead letters and cursors.

use std::sync::Arc;

use shared::domain::{Accepted, LogEntryId, Partition, RoomId, Seq, UserId};
use shared::storage::{CommitError, Entry, EntryContent, PartitionBatch, Role, Store, Window};

use crate::support::{Database, FIRST, NOW, entry, message, messages, on_both_back_ends, page, seqs};

on_both_back_ends![
    seqs_are_dense_in_each_room_across_commits,
    a_repeated_entry_is_stored_once,
    messages_carry_the_stored_names_of_their_sender,
    two_messages_under_one_id_are_both_stored_once,
    a_replaced_worker_cannot_commit,
    a_batch_from_another_cursor_is_refused,
    all_partitions_of_a_batch_are_stored_or_none,
    unstorable_entries_become_dead_letters_and_the_cursor_moves,
    a_message_of_an_unknown_sender_is_a_dead_letter,
    a_deleted_room_still_stores_accepted_messages,
    readers_see_nothing_before_the_commit,
    entries_below_the_cursor_do_not_move_it_back,
];

fn dead(ms: i64) -> Entry {
    let content = EntryContent::DeadLetter {
        reason: "garbage".to_owned(),
        entry: "[]".to_owned(),
    };
    Entry {
        log_entry_id: LogEntryId { ms, counter: 0 },
        content,
    }
}

/// The number of dead letters.
async fn dead_letters(db: &Database) -> usize {
    db.store.dead_letters(0, 1_000).await.unwrap().len()
}

async fn seqs_are_dense_in_each_room_across_commits(db: Database) {
    let ann = db.user("ann").await;
    let (a, b) = (db.room("a", &ann).await.id, db.room("b", &ann).await.id);
    let mut claim = db.claim().await;
    let entries = [a, b, a].iter().zip(1..).map(|(room, ms)| entry(ms, message(*room, ann.id, "x"))).collect();
    let committed = db.commit(&mut claim, entries).await.unwrap();
    assert_eq!((seqs(&committed, a), seqs(&committed, b)), (vec![Seq(1), Seq(2)], vec![Seq(1)]));
    let committed = db.commit(&mut claim, vec![entry(4, message(a, ann.id, "x"))]).await.unwrap();
    assert_eq!(seqs(&committed, a), [Seq(3)]);
    assert_eq!(committed.rooms[0].partition, FIRST);
}

async fn messages_carry_the_stored_names_of_their_sender(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let room = db.room("lobby", &bob).await.id;
    let mut claim = db.claim().await;
    let mut committed = db.commit(&mut claim, vec![entry(1, message(room, bob.id, "x"))]).await.unwrap();
    let more = vec![
        entry(2, message(room, bob.id, "y")),
        entry(3, message(room, ann.id, "z")),
    ];
    let published = &mut committed.rooms[0].entries;
    published.append(&mut db.commit(&mut claim, more).await.unwrap().rooms[0].entries);
    let published = messages(std::mem::take(published));
    let stored = page(&db.store, room, bob.id, Window::After(Seq::ZERO), 9).await.unwrap().messages;
    let replayed = messages(db.store.entries_after(room, Seq::ZERO, 9).await.unwrap());
    for messages in [&published, &stored, &replayed] {
        let names: Vec<_> = messages.iter().map(|sent| (sent.username.as_str(), sent.public_id.as_str())).collect();
        assert_eq!(names, [("bob", "bob"), ("bob", "bob"), ("ann", "ann")]);
    }
}

async fn a_repeated_entry_is_stored_once(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let twice = message(room, ann.id, "x");
    let id = twice.id;
    let committed = db.commit(&mut claim, vec![entry(1, twice.clone()), entry(2, twice.clone())]).await.unwrap();
    assert_eq!((seqs(&committed, room), committed.duplicates), (vec![Seq(1)], vec![(id, Seq(1))]));
    let committed = db.commit(&mut claim, vec![entry(3, twice), entry(4, message(room, ann.id, "y"))]).await.unwrap();
    assert_eq!((seqs(&committed, room), committed.duplicates), (vec![Seq(2)], vec![(id, Seq(1))]));
}

async fn two_messages_under_one_id_are_both_stored_once(db: Database) {
    let ann = db.user("ann").await;
    let (room, other) = (db.room("lobby", &ann).await.id, db.room("other", &ann).await.id);
    let mut claim = db.claim().await;
    let first = message(room, ann.id, "this");
    let under_its_id = |room, text| Accepted {
        id: first.id,
        ..message(room, ann.id, text)
    };
    // Once in the same commit as the first one, and again in a later commit.
    for ms in [1, 4] {
        let entries = vec![
            entry(ms, first.clone()),
            entry(ms + 1, under_its_id(room, "that")),
            entry(ms + 2, under_its_id(other, "this")),
        ];
        let committed = db.commit(&mut claim, entries).await.unwrap();
        let (new, again) = if ms == 1 { (2, 0) } else { (0, 3) };
        assert_eq!((seqs(&committed, room).len(), committed.duplicates.len(), committed.dead_letters), (new, again, 0));
        assert_eq!(seqs(&committed, other).len(), new / 2);
    }
    // In a commit of its own.
    let committed = db.commit(&mut claim, vec![entry(7, under_its_id(room, "those"))]).await.unwrap();
    assert_eq!(seqs(&committed, room), [Seq(3)]);
    let shown = page(&db.store, room, ann.id, Window::After(Seq::ZERO), 9).await.unwrap().messages;
    let texts: Vec<&str> = shown.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts, ["this", "that", "those"]);
    assert_eq!(shown[0].id, first.id);
}

async fn a_replaced_worker_cannot_commit(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut old = db.claim().await;
    let mut new = db.claim().await;
    assert!(new.fence > old.fence);
    let refused = db.commit(&mut old, vec![entry(1, message(room, ann.id, "x"))]).await;
    assert!(matches!(refused, Err(CommitError::StaleClaims(lost)) if lost == [FIRST]));
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq::ZERO);
    db.commit(&mut new, vec![entry(1, message(room, ann.id, "x"))]).await.unwrap();
    assert_eq!(db.claim().await.cursor, LogEntryId { ms: 1, counter: 0 });
}

async fn a_batch_from_another_cursor_is_refused(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let stale = claim;
    db.commit(&mut claim, vec![entry(1, message(room, ann.id, "x"))]).await.unwrap();
    let again = db.commit(&mut { stale }, vec![entry(1, message(room, ann.id, "x"))]).await;
    assert!(matches!(again, Err(CommitError::StaleClaims(_))));
}

async fn all_partitions_of_a_batch_are_stored_or_none(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let claims = db.store.claim(&[Partition(0), Partition(1)], "worker").await.unwrap();
    let mut foreign = claims[1];
    foreign.fence.0 -= 1;
    let batch = |claim, text| PartitionBatch {
        claim,
        entries: vec![entry(1, message(room, ann.id, text))],
    };
    let refused = db.store.commit(Arc::new([batch(claims[0], "x"), batch(foreign, "y")]), NOW, async {}).await;
    assert!(matches!(refused, Err(CommitError::StaleClaims(lost)) if lost == [Partition(1)]));
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq::ZERO);
    let both: Arc<[PartitionBatch]> = Arc::new([batch(claims[0], "x"), batch(claims[1], "y")]);
    db.store.commit(both, NOW, async {}).await.unwrap();
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq(2));
}

async fn unstorable_entries_become_dead_letters_and_the_cursor_moves(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let entries = vec![
        dead(1),
        entry(2, message(RoomId(999), ann.id, "x")),
        entry(3, message(room, ann.id, "y")),
    ];
    let committed = db.commit(&mut claim, entries).await.unwrap();
    assert_eq!((seqs(&committed, room), committed.dead_letters), (vec![Seq(1)], 2));
    assert_eq!(dead_letters(&db).await, 2);
    assert_eq!(db.claim().await.cursor, LogEntryId { ms: 3, counter: 0 });
}

async fn a_message_of_an_unknown_sender_is_a_dead_letter(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let entries = vec![
        entry(1, message(room, UserId(999), "x")),
        entry(2, message(room, ann.id, "y")),
    ];
    let committed = db.commit(&mut claim, entries).await.unwrap();
    assert_eq!((seqs(&committed, room), committed.dead_letters, dead_letters(&db).await), (vec![Seq(1)], 1, 1));
}

async fn a_deleted_room_still_stores_accepted_messages(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    db.store.delete_room(room, NOW).await.unwrap();
    let committed = db.commit(&mut claim, vec![entry(1, message(room, ann.id, "x"))]).await.unwrap();
    assert_eq!((seqs(&committed, room), committed.dead_letters), (vec![Seq(1)], 0));
}

async fn readers_see_nothing_before_the_commit(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let claim = db.claim().await;
    let reader = Store::open(&db.url, Role::Gateway).await.unwrap();
    let user = ann.id;
    let read = async move {
        let page = page(&reader, room, user, Window::Before(Seq(i64::MAX)), 10).await.unwrap();
        assert!(page.messages.is_empty() && page.head == Seq::ZERO);
    };
    let batch = PartitionBatch {
        claim,
        entries: vec![entry(1, message(room, user, "x"))],
    };
    db.store.commit(Arc::new([batch]), NOW, read).await.unwrap();
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq(1));
}

async fn entries_below_the_cursor_do_not_move_it_back(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let known = message(room, ann.id, "known");
    let id = known.id;
    db.commit(&mut claim, vec![entry(9, known.clone())]).await.unwrap();
    let older = vec![entry(2, known), entry(3, message(room, ann.id, "never read"))];
    let committed = db.commit(&mut claim, older).await.unwrap();
    assert_eq!((seqs(&committed, room), committed.duplicates), (vec![Seq(2)], vec![(id, Seq(1))]));
    assert_eq!(db.claim().await.cursor, LogEntryId { ms: 9, counter: 0 });
}
