//! The number and the log of revocations, from which gateways learn who lost access.

use std::time::Duration;

use shared::domain::{RoomName, SessionId};
use shared::storage::Revocation;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::support::{BackEnd, Database, NOW, on_both_back_ends, patiently};

on_both_back_ends![
    every_revocation_and_nothing_else_is_counted_once,
    a_revocation_that_is_rolled_back_is_not_counted,
    revocations_are_read_from_any_number_on,
    only_the_last_thousand_revocations_are_kept,
];

async fn every_revocation_and_nothing_else_is_counted_once(db: Database) {
    let count = async || db.store.revocation_count().await.unwrap();
    assert_eq!(count().await, 0);
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (old, new) = (SessionId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
    db.store.create_session(old, ann.id, NOW, NOW).await.unwrap();
    // This one deletes the expired one, whose token is not valid anyway.
    let later = NOW.plus(Duration::from_secs(1));
    db.store.create_session(new, ann.id, later, later).await.unwrap();
    let room = db.room("lobby", &ann).await.id;
    db.join(room, &bob).await;
    assert_eq!(count().await, 0);
    for _ in 0..2 {
        db.store.revoke_session(new, NOW).await.unwrap();
        assert_eq!(count().await, 1);
    }
    for _ in 0..2 {
        db.store.leave(room, bob.id, NOW).await.unwrap();
        assert_eq!(count().await, 2);
    }
    for _ in 0..2 {
        db.store.delete_room(room, NOW).await.unwrap();
        assert_eq!(count().await, 3);
    }
}

async fn revocations_are_read_from_any_number_on(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let session = SessionId(Uuid::from_u128(1));
    db.store.create_session(session, ann.id, NOW.plus(Duration::from_secs(1)), NOW).await.unwrap();
    let room = db.room("lobby", &ann).await.id;
    let membership = db.join(room, &bob).await.unwrap();
    db.store.revoke_session(session, NOW).await.unwrap();
    db.store.leave(room, bob.id, NOW).await.unwrap();
    db.store.delete_room(room, NOW).await.unwrap();
    let all = [
        Revocation::Session { user: ann.id, session },
        Revocation::Member {
            room,
            user: bob.id,
            membership,
        },
        Revocation::Room {
            room,
            name: RoomName::parse("lobby").unwrap(),
        },
    ];
    let removed = async |after, upto| db.store.revocations_between(after, upto).await.unwrap();
    assert_eq!(removed(0, 3).await.unwrap(), all);
    assert_eq!(removed(1, 2).await.unwrap(), all[1..2]);
    assert_eq!(removed(3, 3).await.unwrap(), []);
    // A number that this database never reached, as before a restore.
    assert_eq!(removed(7, 3).await, None);
    assert_eq!(removed(0, 4).await, None);
}

async fn only_the_last_thousand_revocations_are_kept(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    for _ in 0..1_001 {
        patiently(async || db.store.leave(room, ann.id, NOW).await).await;
        db.join(room, &ann).await;
    }
    assert_eq!(db.store.revocations_between(0, 1_001).await.unwrap(), None);
    assert_eq!(db.store.revocations_between(1, 1_001).await.unwrap().map(|removed| removed.len()), Some(1_000));
}

async fn a_revocation_that_is_rolled_back_is_not_counted(db: Database) {
    let ann = db.user("ann").await;
    db.room("lobby", &ann).await;
    let (remove, count) = ("DELETE FROM members", "SELECT count FROM removals");
    let inside: i64 = match db.back_end {
        BackEnd::Sqlite => {
            let mut connection = SqliteConnection::connect(&db.url).await.unwrap();
            let mut tx = connection.begin().await.unwrap();
            sqlx::query(remove).execute(&mut *tx).await.unwrap();
            let inside = sqlx::query_scalar(count).fetch_one(&mut *tx).await.unwrap();
            tx.rollback().await.unwrap();
            inside
        }
        BackEnd::Postgres => {
            let mut connection = PgConnection::connect(&db.url).await.unwrap();
            let mut tx = connection.begin().await.unwrap();
            sqlx::query(remove).execute(&mut *tx).await.unwrap();
            let inside = sqlx::query_scalar(count).fetch_one(&mut *tx).await.unwrap();
            tx.rollback().await.unwrap();
            inside
        }
    };
    assert_eq!((inside, db.store.revocation_count().await.unwrap()), (1, 0));
}
