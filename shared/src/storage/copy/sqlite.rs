//! The file as one end of a copy.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::{CopyError, Database, OpenError, PAGE_ROWS, SqliteConnection, StoreError, Table, list};
use crate::storage::sqlite::open::{MIGRATIONS, check_encoding, create_private, options};

/// How long the file may be in use by somebody who is about to end.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the file at `url`, which must be there, for us alone; `name` says which of the two it is.
pub(super) async fn open(url: &str, name: &'static str) -> Result<SqliteConnection, CopyError> {
    open_alone(options(url)?.create_if_missing(false), name).await
}

/// The same, made if it is not there.
pub(super) async fn create(url: &str) -> Result<SqliteConnection, CopyError> {
    let options = options(url)?;
    let path = options.get_filename().to_path_buf();
    create_private(&path).map_err(|error| OpenError::Directory(path, error))?;
    let mut connection = open_alone(options, "the target").await?;
    check_encoding(&mut connection).await?;
    Ok(connection)
}

/// With a write-ahead log that succeeds only while nobody else has the file open.
async fn open_alone(options: SqliteConnectOptions, name: &'static str) -> Result<SqliteConnection, CopyError> {
    // A statement that takes long is told of by the progress, and not by the driver.
    let options = options
        .locking_mode(SqliteLockingMode::Exclusive)
        .busy_timeout(IN_USE_TIMEOUT)
        .disable_statement_logging();
    let opened = async {
        let mut connection = options.connect().await?;
        MIGRATIONS.run(&mut connection).await.map_err(OpenError::from)?;
        // The lock is taken with the first write, and kept.
        connection.begin_with("BEGIN EXCLUSIVE").await?.rollback().await?;
        Ok(connection)
    };
    opened
        .await
        .map_err(|error: CopyError| if is_busy(&error) { CopyError::InUse(name) } else { error })
}

/// SQLite's result codes `SQLITE_BUSY` and `SQLITE_LOCKED`, and those derived from them (<https://sqlite.org/rescode.html>).
fn is_busy(error: &CopyError) -> bool {
    let (CopyError::Store(StoreError(cause)) | CopyError::Open(OpenError::Store(StoreError(cause)))) = error else {
        return false;
    };
    let code = cause.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// A column, and whether it holds bytes.
type Column = (String, bool);

async fn columns(connection: &mut SqliteConnection, table: &Table) -> Result<Vec<Column>, sqlx::Error> {
    sqlx::query_as("SELECT name, type = 'BLOB' FROM pragma_table_info(?) ORDER BY cid")
        .bind(table.name)
        .fetch_all(connection)
        .await
}

/// What reads the rows of a table, up to its conditions.
fn select(table: &Table, columns: &[Column]) -> String {
    let fields: Vec<String> = columns
        .iter()
        .map(|(name, is_blob)| {
            if *is_blob {
                format!("'{name}', CASE WHEN {name} IS NULL THEN NULL ELSE lower(hex({name})) END")
            } else {
                format!("'{name}', {name}")
            }
        })
        .collect();
    format!("SELECT json_object({}) FROM {}", fields.join(", "), table.name)
}

/// The value of a column in the JSON object `row`.
fn value(columns: &[Column], name: &str, row: &str) -> String {
    if columns.iter().any(|(column, is_blob)| column == name && *is_blob) {
        format!("unhex({row} ->> '{name}')")
    } else {
        format!("{row} ->> '{name}'")
    }
}

impl Database for SqliteConnection {
    async fn rows_after(&mut self, table: &Table, row: Option<&str>) -> Result<Vec<String>, sqlx::Error> {
        let columns = columns(self, table).await?;
        let (read, key) = (select(table, &columns), table.key.join(", "));
        match row {
            None => {
                let statement = format!("{read} ORDER BY {key} LIMIT {PAGE_ROWS}");
                sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(self).await
            }
            Some(row) => {
                let above = list(table.key, |name| value(&columns, name, "?1"));
                let statement = format!("{read} WHERE ({key}) > ({above}) ORDER BY {key} LIMIT {PAGE_ROWS}");
                sqlx::query_scalar(AssertSqlSafe(statement)).bind(row).fetch_all(self).await
            }
        }
    }

    async fn last_row(&mut self, table: &Table) -> Result<Option<String>, sqlx::Error> {
        let columns = columns(self, table).await?;
        let order = list(table.key, |name| format!("{name} DESC"));
        let statement = format!("{} ORDER BY {order} LIMIT 1", select(table, &columns));
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(self).await?.pop())
    }

    async fn same_row(&mut self, table: &Table, row: &str) -> Result<Option<String>, sqlx::Error> {
        let columns = columns(self, table).await?;
        let (read, key) = (select(table, &columns), table.key.join(", "));
        let same = list(table.key, |name| value(&columns, name, "?1"));
        let statement = format!("{read} WHERE ({key}) = ({same})");
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).bind(row).fetch_all(self).await?.pop())
    }

    async fn write(&mut self, table: &Table, rows: &[String]) -> Result<(), sqlx::Error> {
        let columns = columns(self, table).await?;
        let names: Vec<&String> = columns.iter().map(|(name, _)| name).collect();
        let statement = format!(
            "INSERT INTO {} ({}) SELECT {} FROM json_each(?) j WHERE true ORDER BY j.key ON CONFLICT ({}) DO UPDATE SET {}",
            table.name,
            list(&names, str::to_owned),
            list(&names, |name| value(&columns, name, "j.value")),
            table.key.join(", "),
            list(&names, |name| format!("{name} = excluded.{name}")),
        );
        sqlx::query(AssertSqlSafe(statement)).bind(format!("[{}]", rows.join(","))).execute(self).await?;
        Ok(())
    }

    async fn clear(&mut self, table: &Table) -> Result<(), sqlx::Error> {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {}", table.name))).execute(self).await?;
        Ok(())
    }

    async fn count(&mut self, table: &Table) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {}", table.name)))
            .fetch_one(self)
            .await
    }

    async fn newest_dead_letter(&mut self) -> Result<Option<i64>, sqlx::Error> {
        let newest = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'");
        Ok(newest.fetch_all(self).await?.pop())
    }

    /// The other keys go on by themselves: rows with the highest ones are never removed.
    async fn continue_keys(&mut self, newest_dead_letter: Option<i64>) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM sqlite_sequence WHERE name = 'dead_letters'").execute(&mut *self).await?;
        sqlx::query("INSERT INTO sqlite_sequence (name, seq) VALUES ('dead_letters', ?)")
            .bind(newest_dead_letter.unwrap_or(0))
            .execute(self)
            .await?;
        Ok(())
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        sqlx::Connection::close(self).await
    }
}
