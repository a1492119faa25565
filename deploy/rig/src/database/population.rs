//! Adds many users, rooms and memberships at once.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Database, Either};
use crate::failure::Result;

/// Rows of a statement. Each statement is a transaction, so that services get in between.
const ROWS_AT_ONCE: usize = 20_000;

/// Makes rows of the elements of the JSON array `$1`, with SQLite and with Postgres.
const ELEMENTS: (&str, &str) = ("json_each($1)", "jsonb_array_elements($1::jsonb) AS elements (value)");

const USERS: &str =
    "INSERT INTO users (id, public_id, email, username, password_hash, created_on, email_key, username_key,
                        public_id_key, rooms_version)
     SELECT CAST(value->>0 AS bigint), value->>1, value->>1, value->>1, '!', 0, value->>1, value->>1, value->>1, 1 FROM ";
const ROOMS: &str = "INSERT INTO rooms (id, name, owner_id, created_on)
     SELECT CAST(value->>0 AS bigint), value->>1, CAST(value->>2 AS bigint), 0 FROM ";
/// With a version: triggers leave such a row as it is.
const MEMBERS: &str = "INSERT INTO members (room_id, user_id, id, joined_on, version)
     SELECT CAST(value->>0 AS bigint), CAST(value->>1 AS bigint), CAST(value->>2 AS bigint), 0, 1 FROM ";
const SESSIONS_SQLITE: &str = "INSERT INTO sessions (id, user_id, expires_on)
     SELECT unhex(value->>0), CAST(value->>1 AS bigint), CAST(value->>2 AS bigint) FROM ";
const SESSIONS_POSTGRES: &str = "INSERT INTO sessions (id, user_id, expires_on)
     SELECT CAST(value->>0 AS uuid), CAST(value->>1 AS bigint), CAST(value->>2 AS bigint) FROM ";

/// Tables that can be filled, in an order that their references allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Rows of id and name. Nobody can sign in as such a user.
    Users,
    /// Rows of id in hexadecimal digits, user and end in milliseconds.
    Sessions,
    /// Rows of id, name and owner.
    Rooms,
    /// Rows of room, user and id of the membership.
    Members,
}

impl Database {
    /// Inserts `rows`, each a JSON array.
    pub(crate) async fn insert(&mut self, table: Table, rows: &[Value]) -> Result<()> {
        for some in rows.chunks(ROWS_AT_ONCE) {
            let some = json!(some).to_string();
            match &mut self.connection {
                Either::Sqlite(connection) => {
                    let statement = AssertSqlSafe(format!("{}{}", table.statement(SESSIONS_SQLITE), ELEMENTS.0));
                    sqlx::query(statement).bind(some).execute(connection).await.map(drop)?;
                }
                Either::Postgres(connection) => {
                    let statement = AssertSqlSafe(format!("{}{}", table.statement(SESSIONS_POSTGRES), ELEMENTS.1));
                    sqlx::query(statement).bind(some).execute(connection).await.map(drop)?;
                }
            }
        }
        Ok(())
    }
}

impl Table {
    fn statement(self, sessions: &'static str) -> &'static str {
        match self {
            Self::Users => USERS,
            Self::Sessions => sessions,
            Self::Rooms => ROOMS,
            Self::Members => MEMBERS,
        }
    }
}
