//! The suite calls every method of the store, and the two schemas are equal.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::support::{BackEnd, Database};

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// The names of the methods of the traits in `source`.
fn methods(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_trait = false;
    for line in source.lines() {
        in_trait = line.starts_with("pub trait ") || (in_trait && line != "}");
        let declaration = line.trim_start().trim_start_matches("async ");
        if let (true, Some(rest)) = (in_trait, declaration.strip_prefix("fn ")) {
            found.extend(rest.split('(').next().map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_method_of_the_store_is_called() {
    let mut sources = files("src/storage", "rs");
    sources.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage.rs"));
    let methods: Vec<String> = sources.iter().flat_map(|path| methods(&read(path))).collect();
    assert!(methods.len() >= 30, "the traits were not found: {methods:?}");
    // Only calls on a variable named `store` count: other types have a `close` and a `head` too. White space is removed, since
    // long calls have the method on a line of its own.
    let suite: String = files("tests/storage", "rs").iter().map(read).collect();
    let suite: String = suite.split_whitespace().collect();
    let missing: Vec<&String> = methods.iter().filter(|method| !suite.contains(&format!("store.{method}("))).collect();
    assert!(missing.is_empty(), "no test calls {missing:?}");
}

#[test]
fn migrations_come_in_pairs() {
    let names = |back_end: &str| -> Vec<String> {
        let files = files(&format!("../migrations/{back_end}"), "sql");
        files.iter().map(|path| path.file_name().unwrap().display().to_string()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
}

/// `table.column` for each column, `index on table(columns)` for each unique index that a migration names. Expressions, which the
/// two databases write differently, are left out of the columns.
type Shape = BTreeSet<String>;

async fn shape_of_sqlite(db: &Database) -> Shape {
    let mut connection = SqliteConnection::connect(&db.url).await.unwrap();
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT t.name || '.' || c.name FROM pragma_table_list t JOIN pragma_table_info(t.name) c
         WHERE t.schema = 'main' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let indexes: Vec<String> = sqlx::query_scalar(
        "SELECT i.name || ' on ' || m.name || '(' ||
                COALESCE((SELECT group_concat(c.name, ',' ORDER BY c.seqno) FROM pragma_index_info(i.name) c), '') || ')'
         FROM sqlite_schema m JOIN pragma_index_list(m.name) i
         WHERE m.type = 'table' AND i.\"unique\" AND i.origin = 'c'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    columns.into_iter().chain(indexes).collect()
}

async fn shape_of_postgres(db: &Database) -> Shape {
    let mut connection = PgConnection::connect(&db.url).await.unwrap();
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || '.' || column_name FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let indexes: Vec<String> = sqlx::query_scalar(
        "SELECT i.relname || ' on ' || t.relname || '(' ||
                COALESCE(string_agg(a.attname, ',' ORDER BY array_position(x.indkey::int2[], a.attnum)), '') || ')'
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
         LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (x.indkey)
         WHERE x.indisunique AND NOT x.indisprimary AND t.relnamespace = 'public'::regnamespace
         GROUP BY i.relname, t.relname",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    columns.into_iter().chain(indexes).collect()
}

#[tokio::test]
async fn both_databases_have_the_same_tables_columns_and_unique_indexes() {
    let sqlite = shape_of_sqlite(&Database::new(BackEnd::Sqlite).await).await;
    let postgres = shape_of_postgres(&Database::new(BackEnd::Postgres).await).await;
    for part in [
        "messages.seq",
        "messages_room_seq on messages(room_id,seq)",
        "rooms_live_name_caseless on rooms()",
    ] {
        assert!(sqlite.contains(part), "{part}");
    }
    let difference: Vec<&String> = sqlite.symmetric_difference(&postgres).collect();
    assert!(difference.is_empty(), "{difference:?}");
}

/// Names are compared and sorted by their bytes, whatever the locale of a database is.
#[tokio::test]
async fn sorted_texts_are_compared_by_their_bytes() {
    let db = Database::new(BackEnd::Postgres).await;
    let mut connection = PgConnection::connect(&db.url).await.unwrap();
    let sorted: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || '.' || column_name FROM information_schema.columns
         WHERE table_schema = 'public' AND collation_name = 'C' ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let compared = [
        "known_networks.network",
        "members.private_name",
        "members.username",
        "rooms.name",
        "signing_keys.fingerprint",
        "users.email",
        "users.public_id",
        "users.username",
    ];
    assert_eq!(sorted, compared);
}
