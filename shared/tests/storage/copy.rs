//! A database that grew on SQLite goes on in Postgres as if nothing had happened.

use std::time::Duration;

use serde_json::Value;
use shared::domain::{Partition, RoomName, Seq, SessionId};
use shared::storage::{Content, CopyError, Entry, Role, Store, copy};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::support::{BackEnd, Database, NOW, entry, message, seqs};

/// Something in every table; more messages than travel at once.
async fn filled() -> Database {
    let db = Database::new(BackEnd::Sqlite).await;
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    db.store
        .create_session(SessionId(Uuid::from_u128(7)), ann.id, NOW.plus(Duration::from_mins(1)), NOW)
        .await
        .unwrap();
    db.store
        .create_session(SessionId(Uuid::from_u128(8)), bob.id, NOW.plus(Duration::from_mins(1)), NOW)
        .await
        .unwrap();
    db.store.revoke_session(SessionId(Uuid::from_u128(8)), NOW).await.unwrap();
    let gone = db.room("lobby", &bob).await;
    db.store.delete_room(gone.id, NOW).await.unwrap();
    let room = db.room("lobby", &ann).await;
    db.private_room("secret", &bob).await;
    db.join(room.id, &bob).await;
    let mut claim = db.claim().await;
    let texts: Vec<String> = (0..1_200).map(|n| format!("{n} \" \\ \u{1} 🦀 \r\n")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    db.post(&mut claim, room.id, ann.id, &texts).await;
    db.post(&mut claim, gone.id, bob.id, &["late"]).await;
    let content = Content::DeadLetter {
        reason: "garbage".to_owned(),
        entry: r#"[["\u0000"]]"#.to_owned(),
    };
    let stream_id = claim.cursor.next();
    db.append(&mut claim, vec![Entry { stream_id, content }]).await.unwrap();
    let removed = Entry {
        stream_id: stream_id.next(),
        content: Content::DeadLetter {
            reason: "garbage".to_owned(),
            entry: "[]".to_owned(),
        },
    };
    db.append(&mut claim, vec![removed]).await.unwrap();
    assert!(db.store.drop_dead_letter(2).await.unwrap());
    db.store.close().await;
    db
}

/// All rows of a table, with what the two databases write in different ways made the same.
fn normal(rows: &str) -> Vec<String> {
    let rows: Vec<Value> = serde_json::from_str(rows).unwrap();
    let mut rows: Vec<String> = rows
        .into_iter()
        .map(|row| {
            let values = row.as_object().unwrap().iter().map(|(column, value)| match value {
                Value::Bool(flag) => format!("{column}={}", i64::from(*flag)),
                Value::String(text) => {
                    format!("{column}={:?}", Uuid::parse_str(text).map_or(text.clone(), |id| id.to_string()))
                }
                other => format!("{column}={other}"),
            });
            let mut values: Vec<String> = values.collect();
            values.sort();
            values.join(" ")
        })
        .collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn everything_is_copied_and_goes_on() {
    let old = filled().await;
    let mut db = Database::new(BackEnd::Postgres).await;
    let url = db.another().await;
    let mut told = Vec::new();
    copy(&old.url, &url, |table, rows| told.push((table, rows))).await.unwrap();

    let mut source = SqliteConnection::connect(&old.url).await.unwrap();
    let mut target = PgConnection::connect(&url).await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB '*sql[xi]*'")
            .fetch_all(&mut source)
            .await
            .unwrap();
    assert_eq!(tables.len(), told.len());
    for table in &tables {
        let columns: Vec<String> = sqlx::query_scalar("SELECT CASE WHEN type = 'BLOB' THEN format('''%s'', CASE WHEN %s IS NULL THEN NULL ELSE lower(hex(%s)) END', name, name, name) ELSE format('''%s'', %s', name, name) END FROM pragma_table_info(?)")
            .bind(table)
            .fetch_all(&mut source)
            .await
            .unwrap();
        let read = format!("SELECT json_group_array(json_object({})) FROM {table}", columns.join(", "));
        let before: String = sqlx::query_scalar(AssertSqlSafe(read)).fetch_one(&mut source).await.unwrap();
        let read = format!("SELECT json_agg(to_json(t))::text FROM {table} t");
        let after: String = sqlx::query_scalar(AssertSqlSafe(read)).fetch_one(&mut target).await.unwrap();
        let (before, after) = (normal(&before), normal(&after));
        assert!(!before.is_empty() && before == after, "{table} differs");
        assert!(told.iter().any(|(name, rows)| name == table && *rows == i64::try_from(before.len()).unwrap()));
    }

    source.close().await.unwrap();
    let store = Store::open(&url, Role::Worker).await.unwrap();
    assert_eq!(store.migrate(4, 1).await.unwrap().epoch.0, 77);
    (db.store, db.url) = (store, url.clone());
    let room = db.store.room_by_name(&RoomName::parse("lobby").unwrap()).await.unwrap().unwrap();
    let mut claim = db.store.claim(&[Partition(0)], "new").await.unwrap()[0];
    let next = entry(claim.cursor.ms + 1, message(room.id, room.owner_id, "on"));
    let appended = db.append(&mut claim, vec![next]).await.unwrap();
    assert_eq!(seqs(&appended, room.id), [Seq(1_201)]);
    let garbage = entry(claim.cursor.ms + 1, message(room.id, room.owner_id, "x")).into_dead_letter("garbage");
    db.append(&mut claim, vec![garbage]).await.unwrap();
    assert_eq!(db.store.dead_letters(1, 10).await.unwrap()[0].id, 3, "2 was removed before the move");
    db.user("cid").await;
    assert_eq!(db.positions_grow_with_seqs().await, 1_202);

    let again = copy(&old.url, &url, |_, _| {}).await;
    assert!(matches!(again, Err(CopyError::NotEmpty("installation"))));
}

#[tokio::test]
async fn a_database_in_use_is_not_copied() {
    let old = Database::new(BackEnd::Sqlite).await;
    let url = Database::new(BackEnd::Postgres).await.another().await;
    let refused = copy(&old.url, &url, |_, _| {}).await;
    assert!(matches!(refused, Err(CopyError::InUse)), "{refused:?}");
    old.store.close().await;
    copy(&old.url, &url, |_, _| {}).await.unwrap();
}

#[tokio::test]
async fn it_copies_in_one_direction() {
    for (from, to) in [("postgres://h/d", "sqlite://x"), ("sqlite://x", "sqlite://y")] {
        assert!(matches!(copy(from, to, |_, _| {}).await, Err(CopyError::Direction)));
    }
}
