//! A Postgres database as an endpoint of a copy.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::time::sleep;

use super::endpoint::{Column, Endpoint, list};
use super::{CopyError, OpenError, Table};
use crate::storage::postgres::open::{MIGRATIONS, check, options};

/// Columns whose values Postgres generates, and the rows that have them. Rows with the highest values are never deleted.
const IDENTITIES: [(&str, &str, &str); 3] = [
    ("users", "id", "users"),
    ("rooms", "id", "rooms"),
    (
        "messages",
        "position",
        "(SELECT position FROM messages UNION ALL SELECT position FROM changes) entries",
    ),
];

/// The advisory lock that a copy holds on the database: "roomcast" in ASCII.
const LOCK: i64 = 0x726f_6f6d_6361_7374;

/// How long to wait for a process that uses the database and is about to end.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to check whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Opens the database at `url` to read a snapshot of it.
pub(super) async fn open_source(url: &str) -> Result<PgConnection, CopyError> {
    let mut connection = open(url, "the source").await?;
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    Ok(connection)
}

/// Opens the database at `url` to write to it.
pub(super) async fn open_target(url: &str) -> Result<PgConnection, CopyError> {
    open(url, "the target").await
}

async fn open(url: &str, name: &'static str) -> Result<PgConnection, CopyError> {
    // The progress shows that a statement takes long, so the driver need not log it.
    let mut connection = options(url)?.disable_statement_logging().connect().await?;
    check(&mut connection).await?;
    let began = Instant::now();
    while !lock_unused(&mut connection).await? {
        if began.elapsed() >= IN_USE_TIMEOUT {
            return Err(CopyError::InUse(name));
        }
        sleep(POLL_INTERVAL).await;
    }
    MIGRATIONS.run(&mut connection).await.map_err(OpenError::from)?;
    Ok(connection)
}

/// Locks the database for this copy, and returns true if no gateway or worker is connected and no other copy runs. No other copy can
/// begin while `connection` is open.
async fn lock_unused(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT pg_try_advisory_lock($1) AND NOT EXISTS (
             SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'roomcast-%')",
    )
    .bind(LOCK)
    .fetch_one(connection)
    .await
}

impl Endpoint for PgConnection {
    async fn columns(&mut self, table: &Table) -> Result<Vec<Column>, sqlx::Error> {
        sqlx::query_as(
            "SELECT column_name::text AS name, data_type::text AS kind FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position",
        )
        .bind(table.name)
        .fetch_all(self)
        .await
    }

    fn object(columns: &[Column]) -> String {
        let fields = list(columns, |Column { name, kind }| match kind.as_str() {
            "uuid" => format!("'{name}', replace({name}::text, '-', '')"),
            "boolean" => format!("'{name}', {name}::int"),
            "bytea" => format!("'{name}', encode({name}, 'hex')"),
            _ => format!("'{name}', {name}"),
        });
        format!("json_build_object({fields})::text")
    }

    fn value(Column { name, kind }: &Column) -> String {
        match kind.as_str() {
            "bytea" => format!("decode($1::json ->> '{name}', 'hex')"),
            _ => format!("($1::json ->> '{name}')::{kind}"),
        }
    }

    fn select_from_array(table: &Table, columns: &[Column]) -> String {
        // Postgres takes the digits for the bytes, since no prefix says what they are.
        let values = list(columns, |Column { name, kind }| match kind.as_str() {
            "bytea" => format!("decode(convert_from({name}, 'UTF8'), 'hex')"),
            _ => name.clone(),
        });
        format!("SELECT {values} FROM json_populate_recordset(NULL::{}, $1::json)", table.name)
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
        let newest: Vec<Option<i64>> =
            sqlx::query_scalar("SELECT pg_sequence_last_value(pg_get_serial_sequence($1, 'id')::regclass)")
                .bind(table)
                .fetch_all(self)
                .await?;
        Ok(newest.into_iter().flatten().next())
    }

    async fn continue_keys(&mut self, newest: &[(&'static str, Option<i64>)]) -> Result<(), sqlx::Error> {
        for (table, column, rows) in IDENTITIES {
            let statement = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), MAX({column})) FROM {rows} HAVING COUNT(*) > 0"
            );
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *self).await?;
        }
        for (table, newest) in newest {
            if let Some(newest) = newest.filter(|newest| *newest > 0) {
                sqlx::query("SELECT setval(pg_get_serial_sequence($1, 'id'), $2)")
                    .bind(table)
                    .bind(newest)
                    .execute(&mut *self)
                    .await?;
            }
        }
        Ok(())
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        sqlx::Connection::close(self).await
    }
}
