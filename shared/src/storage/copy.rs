//! Copies an installation from one database to one of the other kind: everything, with its ids, seqs, positions, cursors and epoch,
//! so that no client can tell the difference.
//!
//! Rows are copied as JSON objects in the order of their keys. The columns of a table are read from the databases; both schemas have
//! the same. Each page is committed, so an interrupted copy continues with the messages where it ended. The row of `installation`
//! is copied last: a database that has users but not this row is the target of an incomplete copy, and no process runs on it.

mod endpoint;
mod postgres;
mod sqlite;

use serde_json::Value;

use endpoint::{Endpoint, NEVER_REUSED, PAGE_ROWS};

use super::{OpenError, StoreError};

/// What happens to rows that an earlier, interrupted copy has left in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rerun {
    /// They stay, and the copy continues after them: rows are added with increasing keys, and never change but for those of
    /// [`CHANGED_MESSAGES`].
    Resume,
    /// They are written again, since they may have changed: other rows refer to them, and none is ever deleted.
    Overwrite,
    /// They are deleted and copied again.
    Renew,
}

use Rerun::{Overwrite, Renew, Resume};

/// A table or a part of it, and the columns of its primary key.
struct Table {
    /// Its name in what is reported.
    label: &'static str,
    name: &'static str,
    key: &'static [&'static str],
    rerun: Rerun,
    /// The condition on its rows.
    rows: &'static str,
}

/// Every table. A table comes after those that it refers to.
const TABLES: [Table; 22] = [
    table("users", &["id"], Overwrite),
    table("sessions", &["id"], Renew),
    table("rooms", &["id"], Overwrite),
    table("members", &["room_id", "user_id"], Renew),
    // After the members, who leave rows here when they are deleted.
    table("departures", &["user_id", "room_id"], Renew),
    table("messages", &["position"], Resume),
    table("changes", &["position"], Resume),
    CHANGED_MESSAGES,
    table("reactions", &["room_id", "seq", "emoji", "user_id"], Renew),
    table("replies", &["room_id", "seq", "seq_of_reply"], Renew),
    table("mentions", &["user_id", "room_id", "seq"], Renew),
    table("room_heads", &["room_id"], Renew),
    table("outbox", &["id"], Renew),
    table("search_rooms", &["room_id"], Renew),
    table("search_pages", &["room_id", "level", "number", "first_word"], Renew),
    table("cursors", &["partition"], Renew),
    table("known_networks", &["user_id", "network"], Renew),
    table("signing_keys", &["fingerprint"], Renew),
    table("dead_letters", &["id"], Renew),
    // After the tables whose triggers write to these.
    table("removal_log", &["count"], Renew),
    table("removals", &["id"], Renew),
    INSTALLATION,
];

/// The messages that were changed at some time, perhaps after an interrupted copy had copied them.
const CHANGED_MESSAGES: Table = Table {
    label: "changed messages",
    rows: "id IN (SELECT target FROM changes)",
    ..table("messages", &["position"], Overwrite)
};

/// A database with this row holds an installation.
const INSTALLATION: Table = table("installation", &["id"], Renew);

const fn table(name: &'static str, key: &'static [&'static str], rerun: Rerun) -> Table {
    Table {
        label: name,
        name,
        key,
        rerun,
        rows: "TRUE",
    }
}

/// The progress of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The table that is being copied.
    pub table: &'static str,
    /// Its rows that are in the target so far.
    pub rows: i64,
    /// Its rows in the source.
    pub of: i64,
    /// Whether the table is complete.
    pub is_done: bool,
}

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two databases cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Both databases are of the same kind, or one is of an unknown kind.
    #[error("copying goes from sqlite://<path> to postgres://[user:password@]host[:port]/database, or the other way")]
    Direction,
    /// A gateway, a worker or another copy uses one of the two.
    #[error("{0} is in use: stop every gateway and worker before a database is copied")]
    InUse(&'static str),
    /// The source was never used, or is the target of an incomplete copy.
    #[error("the source holds no installation")]
    NoInstallation,
    /// The target has other data, which would be mixed with what is copied.
    #[error("the target is not empty: its table {0} has other rows")]
    NotEmpty(&'static str),
    /// The target does not have all rows that were copied.
    #[error("{written} of {read} rows of {table} are in the target: it must not be used")]
    Incomplete {
        /// The table.
        table: &'static str,
        /// Rows of the source.
        read: i64,
        /// Rows found in the target.
        written: i64,
    },
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError(error))
    }
}

/// Copies the database at `from` into the one at `to`, which must be empty or the target of the same copy before. Calls
/// `on_progress` after each page and each table.
///
/// Nobody else can use an SQLite file meanwhile. With Postgres, the copy fails if gateways or workers are connected when it begins.
pub async fn copy(from: &str, to: &str, mut on_progress: impl FnMut(Progress)) -> Result<(), CopyError> {
    let is_sqlite = |url: &str| url.starts_with("sqlite:");
    let is_postgres = |url: &str| url.starts_with("postgres:") || url.starts_with("postgresql:");
    if is_sqlite(from) && is_postgres(to) {
        let source = sqlite::open(from, "the source").await?;
        copy_all(source, postgres::open_target(to).await?, &mut on_progress).await
    } else if is_postgres(from) && is_sqlite(to) {
        let source = postgres::open_source(from).await?;
        copy_all(source, sqlite::create(to).await?, &mut on_progress).await
    } else {
        Err(CopyError::Direction)
    }
}

async fn copy_all<S: Endpoint, T: Endpoint>(
    mut source: S,
    mut target: T,
    on_progress: &mut impl FnMut(Progress),
) -> Result<(), CopyError> {
    if source.count(&INSTALLATION).await? == 0 {
        return Err(CopyError::NoInstallation);
    }
    if target.count(&INSTALLATION).await? > 0 {
        return Err(CopyError::NotEmpty(INSTALLATION.name));
    }
    for table in TABLES.iter().filter(|table| table.rerun != Renew) {
        check_same(&mut source, &mut target, table).await?;
    }
    for table in TABLES.iter().filter(|table| table.rerun == Renew) {
        target.clear(table).await?;
    }
    for table in &TABLES {
        if table.name == INSTALLATION.name {
            let mut newest = Vec::with_capacity(NEVER_REUSED.len());
            for table in NEVER_REUSED {
                newest.push((table, source.newest_id(table).await?));
            }
            target.continue_keys(&newest).await?;
        }
        copy_table(&mut source, &mut target, table, on_progress).await?;
    }
    target.close().await?;
    Ok(source.close().await?)
}

/// Fails unless the rows of `table` in the target came from this source, judged by the last one.
async fn check_same(source: &mut impl Endpoint, target: &mut impl Endpoint, table: &Table) -> Result<(), CopyError> {
    let Some(in_target) = target.last_row(table).await? else {
        return Ok(());
    };
    let in_source = source.same_row(table, &in_target).await?;
    // Users and rooms change, but not these columns.
    let identity = |row: &str| {
        let row: Value = serde_json::from_str(row).unwrap_or_default();
        let fixed = ["id", "public_id", "name", "created_on", "room_id", "seq"];
        fixed.map(|column| row.get(column).cloned())
    };
    match in_source {
        Some(in_source) if identity(&in_source) == identity(&in_target) => Ok(()),
        Some(_) | None => Err(CopyError::NotEmpty(table.name)),
    }
}

async fn copy_table(
    source: &mut impl Endpoint,
    target: &mut impl Endpoint,
    table: &Table,
    on_progress: &mut impl FnMut(Progress),
) -> Result<(), CopyError> {
    let of = source.count(table).await?;
    let mut last = match table.rerun {
        Resume => target.last_row(table).await?,
        Overwrite | Renew => None,
    };
    let mut rows = if last.is_some() { target.count(table).await? } else { 0 };
    let progress = |rows, is_done| Progress {
        table: table.label,
        rows,
        of,
        is_done,
    };
    loop {
        let mut page = source.rows_after(table, last.as_deref()).await?;
        if page.is_empty() {
            break;
        }
        target.write(table, &page).await?;
        rows += i64::try_from(page.len()).unwrap_or(PAGE_ROWS);
        on_progress(progress(rows, false));
        last = page.pop();
    }
    let written = target.count(table).await?;
    if written != of {
        let (table, read) = (table.label, of);
        return Err(CopyError::Incomplete { table, read, written });
    }
    on_progress(progress(written, true));
    Ok(())
}
