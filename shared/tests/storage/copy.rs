//! Copies from SQLite to Postgres and back: the target continues exactly where the source ended.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;
use shared::domain::{
    Accepted, AcceptedChange, ChangeRequest, Command, Emoji, MessageId, MessageText, Partition, RoomId, RoomName, Seq,
    SessionId,
};
use shared::storage::{Claim, CopyError, Entry, EntryContent, JoinMode, OpenError, Progress, Role, Store, User, copy};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::support::{BackEnd, Database, NOW, command, entry, hint, message, seqs};

/// A database with rows in every table, and more messages than fit into one page.
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
    db.store
        .remember_network(ann.id, "network".to_owned(), NOW.plus(Duration::from_mins(1)), NOW)
        .await
        .unwrap();
    assert!(db.store.agree_on_signing_keys(vec!["key".to_owned()], false, NOW).await.unwrap());
    let gone = db.room("lobby", &bob).await;
    db.store.delete_room(gone.id, NOW).await.unwrap();
    let room = db.room("lobby", &ann).await;
    db.private_room("secret", &bob).await;
    // He was in the earlier room of this name.
    db.store.join_public(room.id, bob.id, JoinMode::Explicit, NOW).await.unwrap();
    db.execute("DELETE FROM outbox").await;
    let mut claim = db.claim().await;
    change_some(&db, &mut claim, room.id, (&ann, &bob)).await;
    let texts: Vec<String> = (0..1_200).map(|n| format!("{n} \" \\ \u{1} 🦀 \r\n")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    db.post(&mut claim, room.id, ann.id, &texts).await;
    while db.store.index_room(room.id).await.unwrap() {}
    db.post(&mut claim, gone.id, bob.id, &["late"]).await;
    let content = EntryContent::DeadLetter {
        reason: "garbage".to_owned(),
        entry: r#"[["\u0000"]]"#.to_owned(),
    };
    let log_entry_id = claim.cursor.next();
    db.commit(&mut claim, vec![Entry { log_entry_id, content }]).await.unwrap();
    let removed = Entry {
        log_entry_id: log_entry_id.next(),
        content: EntryContent::DeadLetter {
            reason: "garbage".to_owned(),
            entry: "[]".to_owned(),
        },
    };
    db.commit(&mut claim, vec![removed]).await.unwrap();
    assert!(db.store.drop_dead_letter(2).await.unwrap());
    let direct = db.store.direct_room(ann.id, bob.id, RoomName::fresh_direct(), NOW).await.unwrap().0;
    assert!(db.store.hide_direct(direct.id, bob.id).await.unwrap());
    assert!(db.store.set_read(room.id, bob.id, Seq(700)).await.unwrap().is_some_and(|mark| mark.moved));
    // Leaves a row in the outbox, and a departure.
    assert!(db.store.leave(room.id, ann.id, NOW).await.unwrap().is_some());
    db.store.close().await;
    db
}

/// Adds a message that replies and mentions, and changes of every kind: seven entries, two of them messages.
async fn change_some(db: &Database, claim: &mut Claim, room: RoomId, (ann, bob): (&User, &User)) {
    let first = Accepted {
        mentions: vec![bob.id],
        ..message(room, ann.id, "first")
    };
    let reply = Accepted {
        in_reply_to: Some(first.id),
        mentions: vec![ann.id],
        ..message(room, bob.id, "reply")
    };
    let change = |target, request| {
        Command::Change(AcceptedChange {
            id: MessageId::fresh(),
            room,
            sender: ann.id,
            created_on: NOW,
            receipt_to: None,
            target,
            request,
        })
    };
    let emoji = Emoji::parse("👍").unwrap();
    let (text, oldest) = (MessageText::parse("edited").unwrap(), NOW);
    let (first_id, reply_id) = (first.id, reply.id);
    let react = |on| ChangeRequest::React {
        emoji: emoji.clone(),
        on,
    };
    let commands = [
        Command::Message(first),
        Command::Message(reply),
        change(first_id, ChangeRequest::Edit { text, oldest }),
        change(reply_id, react(true)),
        change(first_id, react(true)),
        change(reply_id, react(false)),
        change(reply_id, ChangeRequest::Delete { as_moderator: true }),
    ];
    let entries = (claim.cursor.ms + 1..).zip(commands).map(|(ms, done)| command(ms, done)).collect();
    let committed = db.commit(claim, entries).await.unwrap();
    assert_eq!(committed.rooms[0].entries.len(), 7);
}

/// All rows of a table in one form, where the two databases write values differently.
fn normalize(rows: &str) -> Vec<String> {
    let rows: Vec<Value> = serde_json::from_str(rows).unwrap();
    let mut rows: Vec<String> = rows
        .into_iter()
        .map(|row| {
            let values = row.as_object().unwrap().iter().map(|(column, value)| match value {
                Value::Bool(flag) => format!("{column}={}", i64::from(*flag)),
                Value::String(text) => {
                    // How Postgres marks bytes.
                    let text = text.strip_prefix("\\x").unwrap_or(text);
                    format!("{column}={:?}", Uuid::parse_str(text).map_or(text.to_owned(), |id| id.to_string()))
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

/// Every table of `file` except the driver's own.
async fn tables(file: &mut SqliteConnection) -> Vec<String> {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB '*sql[xi]*'";
    sqlx::query_scalar(tables).fetch_all(file).await.unwrap()
}

/// All rows of a table of an SQLite file.
async fn rows_of_sqlite(file: &mut SqliteConnection, table: &str) -> Vec<String> {
    let columns: Vec<String> = sqlx::query_scalar("SELECT CASE WHEN type = 'BLOB' THEN format('''%s'', CASE WHEN %s IS NULL THEN NULL ELSE lower(hex(%s)) END', name, name, name) ELSE format('''%s'', %s', name, name) END FROM pragma_table_info(?)")
        .bind(table)
        .fetch_all(&mut *file)
        .await
        .unwrap();
    let read = format!("SELECT json_group_array(json_object({})) FROM {table}", columns.join(", "));
    let rows: String = sqlx::query_scalar(AssertSqlSafe(read)).fetch_one(file).await.unwrap();
    normalize(&rows)
}

#[tokio::test]
async fn everything_is_copied_and_usable() {
    let old = filled().await;
    let mut db = Database::new(BackEnd::Postgres).await;
    let url = db.another().await;
    let mut reports = Vec::new();
    copy(&old.url, &url, |progress| reports.push(progress)).await.unwrap();
    let messages: Vec<&Progress> = reports.iter().filter(|progress| progress.table == "messages").collect();
    assert_eq!(messages.iter().map(|progress| progress.rows).collect::<Vec<_>>(), [500, 1_000, 1_203, 1_203]);
    assert!(
        messages
            .iter()
            .all(|progress| progress.of == 1_203 && progress.is_done == (progress == &messages[3]))
    );
    reports.retain(|progress| progress.is_done && progress.table != "changed messages");

    let mut source = SqliteConnection::connect(&old.url).await.unwrap();
    let mut target = PgConnection::connect(&url).await.unwrap();
    let tables = tables(&mut source).await;
    assert_eq!(tables.len(), reports.len());
    for table in &tables {
        let before = rows_of_sqlite(&mut source, table).await;
        let read = format!("SELECT json_agg(to_json(t))::text FROM {table} t");
        let after: String = sqlx::query_scalar(AssertSqlSafe(read)).fetch_one(&mut target).await.unwrap();
        let after = normalize(&after);
        assert!(!before.is_empty() && before == after, "{table} differs");
        assert!(reports.iter().any(|done| done.table == table && done.rows == i64::try_from(before.len()).unwrap()));
    }
    target.close().await.unwrap();

    // Copy back.
    let back = format!("sqlite://{}.back", old.url.trim_start_matches("sqlite://"));
    copy(&url, &back, |_| {}).await.unwrap();
    let mut copied = SqliteConnection::connect(&back).await.unwrap();
    for table in &tables {
        assert_eq!(rows_of_sqlite(&mut source, table).await, rows_of_sqlite(&mut copied, table).await, "{table}");
    }
    copied.close().await.unwrap();
    let store = Store::open(&back, Role::Worker).await.unwrap();
    assert_eq!(store.migrate(4, 1).await.unwrap().epoch.0, 77);
    store.close().await;

    let old_upto: i64 = sqlx::query_scalar("SELECT max(id) FROM outbox").fetch_one(&mut source).await.unwrap();
    source.close().await.unwrap();
    let store = Store::open(&url, Role::Worker).await.unwrap();
    assert_eq!(store.migrate(4, 1).await.unwrap().epoch.0, 77);
    (db.store, db.url) = (store, url.clone());
    let room = db.store.room_by_name(&RoomName::parse("lobby").unwrap()).await.unwrap().unwrap();
    let mut claim = db.store.claim(&[Partition(0)], "new").await.unwrap()[0];
    // What waited in the outbox is there too.
    let next = vec![
        command(claim.cursor.ms + 1, hint(room.id)),
        entry(claim.cursor.ms + 2, message(room.id, room.owner_id, "on")),
    ];
    let committed = db.commit(&mut claim, next).await.unwrap();
    assert_eq!(seqs(&committed, room.id), [Seq(1_208), Seq(1_209)]);
    let garbage = entry(claim.cursor.ms + 1, message(room.id, room.owner_id, "x")).into_dead_letter("garbage");
    db.commit(&mut claim, vec![garbage]).await.unwrap();
    assert_eq!(db.store.dead_letters(1, 10).await.unwrap()[0].id, 3, "2 was dropped before the copy");
    assert!(next_outbox_id(&db, room.id).await > old_upto, "a hint from before the copy may name it");
    assert_eq!(db.positions_grow_with_seqs().await, 1_204);

    db.store.close().await;
    let again = copy(&old.url, &url, |_| {}).await;
    assert!(matches!(again, Err(CopyError::NotEmpty("installation"))), "{again:?}");
}

/// The id of a row that is added to the empty outbox of `room`.
async fn next_outbox_id(db: &Database, room: RoomId) -> i64 {
    assert!(db.store.last_in_outbox(room).await.unwrap().is_none());
    let cid = db.user("cid").await;
    db.store.join_public(room, cid.id, JoinMode::Explicit, NOW).await.unwrap();
    db.store.last_in_outbox(room).await.unwrap().unwrap().upto
}

/// The position after a change is the next one too, where the target counts positions apart from rows.
#[tokio::test]
async fn a_copy_goes_on_after_a_last_entry_that_is_a_change() {
    let old = Database::new(BackEnd::Sqlite).await;
    let (ann, bob) = (old.user("ann").await, old.user("bob").await);
    let room = old.room("lobby", &ann).await.id;
    let mut claim = old.claim().await;
    change_some(&old, &mut claim, room, (&ann, &bob)).await;
    old.store.close().await;
    let mut db = Database::new(BackEnd::Postgres).await;
    let url = db.another().await;
    copy(&old.url, &url, |_| {}).await.unwrap();
    let store = Store::open(&url, Role::Worker).await.unwrap();
    store.migrate(4, 1).await.unwrap();
    (db.store, db.url) = (store, url);
    let mut after = db.store.last_positions(&[Partition(0)]).await.unwrap();
    let mut claim = db.store.claim(&[Partition(0)], "new").await.unwrap()[0];
    db.post(&mut claim, room, ann.id, &["on"]).await;
    db.positions_grow_with_seqs().await;
    let moved = db.store.moved_heads(&after, 9).await.unwrap();
    assert_eq!(moved.iter().map(|head| (head.room, head.seq)).collect::<Vec<_>>(), [(room, Seq(8))]);
    after[0].1 = moved[0].position;
    assert!(db.store.moved_heads(&after, 9).await.unwrap().is_empty());
}

/// In both directions, a copy continues after the messages that it has copied. Until it is complete, the target is not used as an
/// installation.
#[tokio::test]
async fn an_interrupted_copy_continues() {
    let old = filled().await;
    let there = Database::new(BackEnd::Postgres).await.another().await;
    let back = format!("sqlite://{}.back", old.url.trim_start_matches("sqlite://"));
    for (from, to) in [(&old.url, &there), (&there, &back)] {
        let interrupt = |progress: Progress| assert!(progress.table != "messages" || progress.rows < 1_000);
        assert!(AssertUnwindSafe(copy(from, to, interrupt)).catch_unwind().await.is_err());
        let store = eventually_open(to).await;
        let refused = store.migrate(4, 1).await;
        assert!(matches!(refused, Err(OpenError::UnfinishedCopy)), "{refused:?}");
        store.close().await;
        if from == &old.url {
            // A message that was copied is changed before the copy goes on.
            old.execute("UPDATE messages SET text = 'later' WHERE seq = 1 AND extra IS NOT NULL").await;
        }

        let mut reports = Vec::new();
        copy(from, to, |progress| reports.push((progress.table, progress.rows))).await.unwrap();
        let messages: Vec<i64> =
            reports.iter().filter(|(table, _)| *table == "messages").map(|(_, rows)| *rows).collect();
        assert_eq!(messages, [1_203, 1_203]);
    }
    let (mut first, mut last) =
        (SqliteConnection::connect(&old.url).await.unwrap(), SqliteConnection::connect(&back).await.unwrap());
    for table in tables(&mut first).await {
        assert_eq!(rows_of_sqlite(&mut first, &table).await, rows_of_sqlite(&mut last, &table).await, "{table}");
    }
}

/// The store at `url`, once the interrupted copy has released it.
async fn eventually_open(url: &str) -> Store {
    for _ in 0..100 {
        if let Ok(store) = Store::open(url, Role::Gateway).await {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} cannot be opened");
}

#[tokio::test]
async fn other_data_in_the_target_is_not_overwritten() {
    let old = filled().await;
    let url = Database::new(BackEnd::Postgres).await.another().await;
    Store::open(&url, Role::Gateway).await.unwrap().migrate(4, 1).await.unwrap();
    let mut target = PgConnection::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM installation").execute(&mut target).await.unwrap();
    let other_user =
        "INSERT INTO users (public_id, email, username, password_hash, created_on) VALUES ('x', 'x', 'x', '', 1)";
    sqlx::query(other_user).execute(&mut target).await.unwrap();
    let refused = copy(&old.url, &url, |_| {}).await;
    assert!(matches!(refused, Err(CopyError::NotEmpty("users"))), "{refused:?}");
}

#[tokio::test]
async fn a_database_in_use_is_not_copied() {
    let old = Database::new(BackEnd::Sqlite).await;
    let url = Database::new(BackEnd::Postgres).await.another().await;
    let refused = copy(&old.url, &url, |_| {}).await;
    assert!(matches!(refused, Err(CopyError::InUse(_))), "{refused:?}");
    old.store.close().await;
    let gateway = Store::open(&url, Role::Gateway).await.unwrap();
    gateway.ping().await.unwrap_err();
    let refused = copy(&old.url, &url, |_| {}).await;
    assert!(matches!(refused, Err(CopyError::InUse("the target"))), "{refused:?}");
    gateway.close().await;
    copy(&old.url, &url, |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_target_that_cannot_hold_every_text_is_refused() {
    let old = Database::new(BackEnd::Postgres).await;
    old.store.close().await;
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("roomcast.db").display());
    let mut target = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
    sqlx::raw_sql("PRAGMA encoding = 'UTF-16'; CREATE TABLE t (c); DROP TABLE t;")
        .execute(&mut target)
        .await
        .unwrap();
    target.close().await.unwrap();
    let refused = copy(&old.url, &url, |_| {}).await;
    assert!(matches!(refused, Err(CopyError::Open(OpenError::Encoding(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_copy_needs_databases_of_two_kinds() {
    for (from, to) in [
        ("postgres://h/d", "postgres://h/e"),
        ("sqlite://x", "sqlite://y"),
        ("sqlite://x", "mysql://y"),
    ] {
        assert!(matches!(copy(from, to, |_| {}).await, Err(CopyError::Direction)));
    }
}
