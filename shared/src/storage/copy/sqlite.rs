//! An SQLite file as an endpoint of a copy.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteLockingMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::endpoint::{Column, Endpoint, list};
use super::{CopyError, OpenError, StoreError, Table};
use crate::storage::sqlite::open::{MIGRATIONS, check_encoding, create_private, options};

/// How long to wait for a process that uses the file and is about to end.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the existing file at `url` exclusively. `name` is its name in errors.
pub(super) async fn open(url: &str, name: &'static str) -> Result<SqliteConnection, CopyError> {
    open_exclusively(options(url)?.create_if_missing(false), name).await
}

/// Opens the file at `url` exclusively, and creates it if it does not exist.
pub(super) async fn create(url: &str) -> Result<SqliteConnection, CopyError> {
    let options = options(url)?;
    let path = options.get_filename().to_path_buf();
    create_private(&path).map_err(|error| OpenError::Directory(path, error))?;
    let mut connection = open_exclusively(options, "the target").await?;
    check_encoding(&mut connection).await?;
    Ok(connection)
}

/// Opens a file for this connection alone. With a write-ahead log, that fails while another process has the file open.
async fn open_exclusively(options: SqliteConnectOptions, name: &'static str) -> Result<SqliteConnection, CopyError> {
    // The progress shows that a statement takes long, so the driver need not log it.
    let options = options
        .locking_mode(SqliteLockingMode::Exclusive)
        .busy_timeout(IN_USE_TIMEOUT)
        .disable_statement_logging();
    let opened = async {
        let mut connection = options.connect().await?;
        MIGRATIONS.run(&mut connection).await.map_err(OpenError::from)?;
        // The first write takes the lock, and the connection keeps it.
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

fn is_blob(column: &Column) -> bool {
    column.kind == "BLOB"
}

/// The value of `column` in the JSON object that the expression `row` yields.
fn value_in(row: &str, column: &Column) -> String {
    let name = &column.name;
    if is_blob(column) {
        format!("unhex({row} ->> '{name}')")
    } else {
        format!("{row} ->> '{name}'")
    }
}

impl Endpoint for SqliteConnection {
    async fn columns(&mut self, table: &Table) -> Result<Vec<Column>, sqlx::Error> {
        sqlx::query_as("SELECT name, type AS kind FROM pragma_table_info($1) ORDER BY cid")
            .bind(table.name)
            .fetch_all(self)
            .await
    }

    fn object(columns: &[Column]) -> String {
        let fields = list(columns, |column| {
            let name = &column.name;
            if is_blob(column) {
                format!("'{name}', CASE WHEN {name} IS NULL THEN NULL ELSE lower(hex({name})) END")
            } else {
                format!("'{name}', {name}")
            }
        });
        format!("json_object({fields})")
    }

    fn value(column: &Column) -> String {
        value_in("$1", column)
    }

    fn select_from_array(_table: &Table, columns: &[Column]) -> String {
        let values = list(columns, |column| value_in("j.value", column));
        // Without the WHERE, SQLite would take the ON CONFLICT that follows for the condition of a join.
        format!("SELECT {values} FROM json_each($1) j WHERE true ORDER BY j.key")
    }

    async fn read(&mut self, statement: String, parameter: Option<&str>) -> Result<Vec<String>, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(statement));
        match parameter {
            Some(parameter) => query.bind(parameter).fetch_all(self).await,
            None => query.fetch_all(self).await,
        }
    }

    async fn run(&mut self, statement: String, parameter: Option<String>) -> Result<(), sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(statement));
        match parameter {
            Some(parameter) => query.bind(parameter).execute(self).await?,
            None => query.execute(self).await?,
        };
        Ok(())
    }

    async fn count(&mut self, table: &Table) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {} WHERE {}", table.name, table.rows)))
            .fetch_one(self)
            .await
    }

    async fn newest_id(&mut self, table: &'static str) -> Result<Option<i64>, sqlx::Error> {
        let newest = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = $1").bind(table);
        Ok(newest.fetch_all(self).await?.pop())
    }

    /// Other keys continue by themselves, since rows with the highest ones are never deleted.
    async fn continue_keys(&mut self, newest: &[(&'static str, Option<i64>)]) -> Result<(), sqlx::Error> {
        for (table, newest) in newest {
            sqlx::query("DELETE FROM sqlite_sequence WHERE name = $1").bind(table).execute(&mut *self).await?;
            sqlx::query("INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)")
                .bind(table)
                .bind(newest.unwrap_or(0))
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        sqlx::Connection::close(self).await
    }
}
