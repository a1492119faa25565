//! Epochs: a new one makes the cursors from before a restore foreign.

use crate::support::{Database, on_both_back_ends};

on_both_back_ends![an_epoch_begins_once_after_the_one_before];

async fn an_epoch_begins_once_after_the_one_before(db: Database) {
    let (first, number) = db.store.epoch().await.unwrap();
    assert!(db.store.begin_epoch(first, number + 1, 7).await.unwrap());
    let (second, raised) = db.store.epoch().await.unwrap();
    assert_ne!(second, first);
    assert_eq!(raised, number + 1);
    assert!(!db.store.begin_epoch(first, number + 1, 8).await.unwrap(), "it has begun already");
    assert_eq!(db.store.epoch().await.unwrap(), (second, raised));
}
