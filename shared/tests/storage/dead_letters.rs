use shared::domain::{LogEntryId, Partition};
use shared::storage::{Entry, EntryContent};

use crate::support::{Database, FIRST, NOW, on_both_back_ends};

on_both_back_ends![
    dead_letters_are_listed_shown_and_dropped,
    any_entry_can_become_a_dead_letter,
    a_repeated_dead_letter_is_stored_once,
    another_entry_at_the_same_position_is_stored_too,
    the_id_of_a_dropped_dead_letter_is_not_reused,
];

fn dead(ms: i64, reason: &str, entry: &str) -> Entry {
    let content = EntryContent::DeadLetter {
        reason: reason.to_owned(),
        entry: entry.to_owned(),
    };
    Entry {
        log_entry_id: LogEntryId { ms, counter: 7 },
        content,
    }
}

async fn dead_letters_are_listed_shown_and_dropped(db: Database) {
    let mut claim = db.claim().await;
    let entries = (1..=5).map(|ms| dead(ms, "garbage", "[]")).collect();
    assert_eq!(db.commit(&mut claim, entries).await.unwrap().dead_letters, 5);
    let all = db.store.dead_letters(0, 10).await.unwrap();
    let places: Vec<&str> = all.iter().map(|letter| letter.log_entry_id.as_str()).collect();
    assert_eq!(places, ["1-7", "2-7", "3-7", "4-7", "5-7"]);
    assert_eq!(db.store.dead_letters(all[1].id, 2).await.unwrap(), all[2..4]);
    let letter = db.store.dead_letter(all[0].id).await.unwrap().unwrap();
    assert_eq!((letter.partition, letter.reason.as_str(), letter.created_on), (FIRST, "garbage", NOW));
    assert_eq!(letter, all[0]);
    assert!(db.store.drop_dead_letter(letter.id).await.unwrap());
    assert!(!db.store.drop_dead_letter(letter.id).await.unwrap());
    assert!(db.store.dead_letter(letter.id).await.unwrap().is_none());
    assert_eq!(db.store.dead_letters(0, 10).await.unwrap(), all[1..]);
}

async fn any_entry_can_become_a_dead_letter(db: Database) {
    let claim = db.store.claim(&[Partition(3)], "worker").await.unwrap();
    let entry = r#"[["a\u0000b","\ud800 🦀 \\"]]"#;
    let mut claim = claim[0];
    db.commit(&mut claim, vec![dead(1, "because of \0 and 🦀", entry)]).await.unwrap();
    let letter = db.store.dead_letters(0, 1).await.unwrap().remove(0);
    assert_eq!((letter.reason.as_str(), letter.entry.as_str()), ("because of \u{FFFD} and 🦀", entry));
    assert_eq!(letter.partition, Partition(3));
}

/// As after a worker was killed between its commit and the trim.
async fn a_repeated_dead_letter_is_stored_once(db: Database) {
    let mut claim = db.claim().await;
    let read = vec![
        dead(1, "garbage", "[1]"),
        dead(2, "garbage", "[2]"),
        dead(2, "garbage", "[2]"),
    ];
    assert_eq!(db.commit(&mut claim, read.clone()).await.unwrap().dead_letters, 2);
    let kept = db.store.dead_letters(0, 10).await.unwrap();
    let mut claim = db.claim().await;
    let again = [read, vec![dead(3, "garbage", "[3]")]].concat();
    assert_eq!(db.commit(&mut claim, again).await.unwrap().dead_letters, 1);
    let all = db.store.dead_letters(0, 10).await.unwrap();
    assert_eq!((&all[..2], all.len()), (&kept[..], 3));
}

/// As after Redis was restored to an older state and generates the same ids again. Another partition has ids of its own.
async fn another_entry_at_the_same_position_is_stored_too(db: Database) {
    let mut claim = db.claim().await;
    db.commit(&mut claim, vec![dead(1, "garbage", "[1]")]).await.unwrap();
    let other = db.commit(&mut claim, vec![dead(1, "garbage", "[2]")]).await.unwrap();
    let mut elsewhere = db.store.claim(&[Partition(1)], "worker").await.unwrap()[0];
    let there = db.commit(&mut elsewhere, vec![dead(1, "garbage", "[1]")]).await.unwrap();
    assert_eq!((other.dead_letters, there.dead_letters), (1, 1));
    let all = db.store.dead_letters(0, 10).await.unwrap();
    let kept: Vec<_> = all.iter().map(|letter| (letter.partition, letter.entry.as_str())).collect();
    assert_eq!(kept, [(FIRST, "[1]"), (FIRST, "[2]"), (Partition(1), "[1]")]);
}

/// Otherwise an operator who drops a listed dead letter could drop another one.
async fn the_id_of_a_dropped_dead_letter_is_not_reused(db: Database) {
    let mut claim = db.claim().await;
    db.commit(&mut claim, vec![dead(1, "garbage", "[1]"), dead(2, "garbage", "[2]")]).await.unwrap();
    let newest = db.store.dead_letters(0, 10).await.unwrap()[1].id;
    assert!(db.store.drop_dead_letter(newest).await.unwrap());
    db.commit(&mut claim, vec![dead(3, "garbage", "[3]")]).await.unwrap();
    assert!(db.store.dead_letters(0, 10).await.unwrap()[1].id > newest);
}
