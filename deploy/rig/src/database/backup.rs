//! A backup of what workers write, in tables of the database itself.

use sqlx::AssertSqlSafe;

use super::{Database, Either, on};
use crate::failure::Result;

/// The tables that a backup is of: what workers write, and the epoch.
const BACKED_UP: [&str; 10] = [
    "messages",
    "changes",
    "reactions",
    "replies",
    "mentions",
    "room_heads",
    "search_rooms",
    "search_pages",
    "cursors",
    "installation",
];

impl Database {
    /// Copies what workers write into tables beside it.
    pub async fn back_up(&mut self) -> Result<()> {
        for table in BACKED_UP {
            let statement = format!("CREATE TABLE rig_old_{table} AS SELECT * FROM {table}");
            on!(self, connection => sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)?);
        }
        Ok(())
    }

    /// Puts the tables back to what they were at [`Database::back_up`]. No worker may run.
    pub async fn restore(&mut self) -> Result<()> {
        let statements =
            BACKED_UP.map(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM rig_old_{table};"));
        // In one transaction: gateways read what is restored.
        let all = format!("BEGIN; {} COMMIT", statements.concat());
        on!(self, connection => sqlx::raw_sql(AssertSqlSafe(all)).execute(connection).await.map(drop)?);
        Ok(())
    }
}
