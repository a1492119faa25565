//! Checkpoints: copying the write-ahead log into the database file.

use shared::domain::Seq;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{BackEnd, Database, on_both_back_ends};

on_both_back_ends![a_checkpoint_copies_the_whole_log_into_the_file];

async fn a_checkpoint_copies_the_whole_log_into_the_file(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann.id, &["1", "2"]).await;
    db.store.checkpoint().await.unwrap();
    if db.back_end == BackEnd::Sqlite {
        let mut connection = SqliteConnection::connect(&db.url).await.unwrap();
        let (_, pages, copied): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut connection).await.unwrap();
        assert!(pages > 0 && pages == copied, "{copied} of {pages} pages");
    }
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq(2));
}
