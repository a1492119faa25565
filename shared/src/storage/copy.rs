//! Moves an installation from SQLite to Postgres: all of it, ids, seqs, positions, cursors and epoch included, so that
//! nobody outside can tell the difference.
//!
//! Rows travel as JSON objects, which SQLite writes and Postgres reads by the names of the columns; both schemas have the
//! same. Everything is written in one transaction: a copy that fails leaves nothing behind.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnection, SqliteLockingMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use super::{OpenError, StoreError, postgres, sqlite};

/// Rows sent at once at most.
const PAGE_ROWS: usize = 500;

/// Bytes sent at once at most, the last row aside.
const PAGE_BYTES: usize = 1024 * 1024;

/// How long the file may be in use by somebody who is about to end.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(2);

/// Every table, those that others refer to before them, with its rows as JSON objects.
const TABLES: [(&str, &str); 11] = [
    (
        "installation",
        "SELECT json_object('id', id, 'epoch', epoch, 'partitions', partitions, 'identity', identity,
                            'epoch_number', epoch_number, 'carries_over', carries_over) FROM installation",
    ),
    (
        "users",
        "SELECT json_object('id', id, 'public_id', public_id, 'email', email, 'username', username,
                            'password_hash', password_hash, 'is_admin', is_admin, 'created_on', created_on)
         FROM users ORDER BY id",
    ),
    (
        "sessions",
        "SELECT json_object('id', lower(hex(id)), 'user_id', user_id, 'expires_on', expires_on, 'revoked_on', revoked_on)
         FROM sessions",
    ),
    (
        "rooms",
        "SELECT json_object('id', id, 'name', name, 'owner_id', owner_id, 'is_private', is_private,
                            'incarnation', incarnation, 'created_on', created_on, 'deleted_on', deleted_on)
         FROM rooms ORDER BY id",
    ),
    (
        "members",
        "SELECT json_object('room_id', room_id, 'user_id', user_id, 'joined_on', joined_on, 'id', id) FROM members",
    ),
    ("removals", "SELECT json_object('id', id, 'count', count) FROM removals"),
    (
        "removal_log",
        "SELECT json_object('count', count, 'session_id', CASE WHEN session_id IS NULL THEN NULL ELSE lower(hex(session_id)) END,
                            'user_id', user_id, 'room_id', room_id, 'member_id', member_id)
         FROM removal_log",
    ),
    (
        "messages",
        "SELECT json_object('position', position, 'room_id', room_id, 'seq', seq, 'id', lower(hex(id)),
                            'sender_id', sender_id, 'kind', kind, 'text', text, 'created_on', created_on)
         FROM messages ORDER BY position",
    ),
    (
        "room_heads",
        "SELECT json_object('room_id', room_id, 'seq', seq) FROM room_heads",
    ),
    (
        "cursors",
        "SELECT json_object('partition', partition, 'stream_ms', stream_ms, 'stream_counter', stream_counter,
                            'fence', fence, 'owner', owner)
         FROM cursors ORDER BY partition",
    ),
    (
        "dead_letters",
        "SELECT json_object('id', id, 'partition', partition, 'stream_id', stream_id, 'reason', reason, 'entry', entry,
                            'created_on', created_on)
         FROM dead_letters ORDER BY id",
    ),
];

/// Columns whose values Postgres hands out itself: it goes on above the highest one that was copied.
/// Rows of these are never removed; for those of `dead_letters`, which are, see [`go_on_behind_dead_letters`].
const IDENTITIES: [(&str, &str); 3] = [("users", "id"), ("rooms", "id"), ("messages", "position")];

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two databases cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Copying works in one direction.
    #[error("only sqlite://<path> can be copied, and only to postgres://[user:password@]host[:port]/database")]
    Direction,
    /// A gateway or a worker has the file open.
    #[error("the SQLite file is in use: stop every gateway and worker before it is copied")]
    InUse,
    /// What the target holds would be mixed with what is copied.
    #[error("the target is not empty: its table {0} has rows")]
    NotEmpty(&'static str),
    /// The target has not what was sent to it.
    #[error("{written} of {read} rows of {table} arrived: nothing was kept")]
    Incomplete {
        /// The table.
        table: &'static str,
        /// Rows read from the source.
        read: i64,
        /// Rows found in the target.
        written: i64,
    },
    /// A database failed on the way.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError(error))
    }
}

/// Copies the SQLite database at `from` into the empty Postgres database at `to`; `copied` hears of each table when it is
/// through, with its rows.
///
/// The file is locked meanwhile, so that nothing can be written that would be missing in the copy.
pub async fn copy(from: &str, to: &str, mut copied: impl FnMut(&'static str, i64)) -> Result<(), CopyError> {
    if !from.starts_with("sqlite:") || !to.starts_with("postgres") {
        return Err(CopyError::Direction);
    }
    let mut source = open_source(from).await?;
    let mut target = postgres::open::options(to)?.connect().await?;
    postgres::open::check(&mut target).await?;
    postgres::open::MIGRATIONS.run(&mut target).await.map_err(OpenError::from)?;
    let mut tx = target.begin().await?;
    // Until the end nobody creates an installation here, as every process that starts does.
    sqlx::query("LOCK TABLE installation IN EXCLUSIVE MODE").execute(&mut *tx).await?;
    for (table, _) in TABLES {
        if count(&mut tx, table).await? > 0 {
            return Err(CopyError::NotEmpty(table));
        }
    }
    for (table, rows) in TABLES {
        let read = copy_table(&mut source, &mut tx, table, rows).await?;
        let written = count(&mut tx, table).await?;
        if read != written {
            return Err(CopyError::Incomplete { table, read, written });
        }
        copied(table, read);
    }
    for (table, column) in IDENTITIES {
        let statement = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), MAX({column})) FROM {table} HAVING COUNT(*) > 0"
        );
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await?;
    }
    go_on_behind_dead_letters(&mut source, &mut tx).await?;
    tx.commit().await?;
    target.close().await?;
    source.close().await?;
    Ok(())
}

/// Opens the file for us alone: with a write-ahead log that succeeds only while nobody else has it open.
async fn open_source(url: &str) -> Result<SqliteConnection, CopyError> {
    let options = sqlite::open::options(url)?
        .create_if_missing(false)
        .locking_mode(SqliteLockingMode::Exclusive)
        .busy_timeout(IN_USE_TIMEOUT);
    let opened = async {
        let mut source = options.connect().await?;
        sqlite::open::MIGRATIONS.run(&mut source).await.map_err(OpenError::from)?;
        // The lock is taken with the first write, and kept.
        source.begin_with("BEGIN EXCLUSIVE").await?.rollback().await?;
        Ok(source)
    };
    opened.await.map_err(|error: CopyError| if is_busy(&error) { CopyError::InUse } else { error })
}

/// SQLite's result codes `SQLITE_BUSY` and `SQLITE_LOCKED`, and those derived from them (<https://sqlite.org/rescode.html>).
fn is_busy(error: &CopyError) -> bool {
    let (CopyError::Store(StoreError(cause)) | CopyError::Open(OpenError::Store(StoreError(cause)))) = error else {
        return false;
    };
    let code = cause.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

async fn count(target: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"))).fetch_one(target).await
}

/// Copies one table in pages, and returns how many rows were read.
async fn copy_table(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
    table: &str,
    rows: &'static str,
) -> Result<i64, sqlx::Error> {
    let mut rows = sqlx::query_scalar::<_, String>(rows).fetch(source);
    let (mut page, mut bytes, mut read) = (Vec::new(), 0, 0);
    while let Some(row) = rows.try_next().await? {
        read += 1;
        bytes += row.len();
        page.push(row);
        if page.len() >= PAGE_ROWS || bytes >= PAGE_BYTES {
            write_page(target, table, &std::mem::take(&mut page)).await?;
            bytes = 0;
        }
    }
    write_page(target, table, &page).await?;
    Ok(read)
}

async fn write_page(target: &mut PgConnection, table: &str, rows: &[String]) -> Result<(), sqlx::Error> {
    let statement = format!("INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1::json)");
    sqlx::query(AssertSqlSafe(statement)).bind(format!("[{}]", rows.join(","))).execute(target).await?;
    Ok(())
}

/// Lets the ids of dead letters go on above the highest one that SQLite ever gave out, be it of one that was removed.
async fn go_on_behind_dead_letters(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let newest: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'")
        .fetch_optional(source)
        .await?;
    if let Some(newest) = newest {
        sqlx::query("SELECT setval(pg_get_serial_sequence('dead_letters', 'id'), $1)")
            .bind(newest)
            .execute(target)
            .await?;
    }
    Ok(())
}
