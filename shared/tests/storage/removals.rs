//! The number by which gateways notice that somebody may no longer do what they could.

use std::time::Duration;

use shared::domain::SessionId;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::support::{BackEnd, Database, NOW, on_both_back_ends};

on_both_back_ends![
    every_removal_is_counted_once_and_nothing_else_is,
    a_removal_that_is_rolled_back_is_not_counted,
];

async fn every_removal_is_counted_once_and_nothing_else_is(db: Database) {
    let count = async || db.store.removals().await.unwrap();
    assert_eq!(count().await, 0);
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (old, new) = (SessionId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
    db.store.create_session(old, ann.id, NOW, NOW).await.unwrap();
    // This one clears the expired one away, whose token is of no use any more.
    let later = NOW.plus(Duration::from_secs(1));
    db.store.create_session(new, ann.id, later, later).await.unwrap();
    let room = db.room("lobby", &ann).await.id;
    db.store.join_public(room, bob.id, NOW).await.unwrap();
    assert_eq!(count().await, 0);
    for _ in 0..2 {
        db.store.revoke_session(new, NOW).await.unwrap();
        assert_eq!(count().await, 1);
    }
    for _ in 0..2 {
        db.store.leave(room, bob.id).await.unwrap();
        assert_eq!(count().await, 2);
    }
    for _ in 0..2 {
        db.store.delete_room(room, NOW).await.unwrap();
        assert_eq!(count().await, 3);
    }
}

async fn a_removal_that_is_rolled_back_is_not_counted(db: Database) {
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
    assert_eq!((inside, db.store.removals().await.unwrap()), (1, 0));
}
