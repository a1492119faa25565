//! Errors of storage, classified by whether a retry can succeed.

use std::io;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// A call to storage failed. The cause is for the log only.
#[derive(Debug, thiserror::Error)]
#[error("storage failed: {0}")]
pub struct StoreError(#[from] pub(super) sqlx::Error);

/// SQLite's result codes for data that does not fit: `SQLITE_TOOBIG`, `SQLITE_MISMATCH`, and of `SQLITE_CONSTRAINT` those
/// for a check, a foreign key and a missing value (<https://sqlite.org/rescode.html>).
const REFUSED_BY_SQLITE: [&str; 5] = ["18", "20", "275", "787", "1299"];

/// SQLite's result codes for a file that another connection is writing to: `SQLITE_BUSY`, `SQLITE_LOCKED`, and of those derived
/// from them the ones of a recovery, a snapshot and a time-out (<https://sqlite.org/rescode.html>).
const BUSY_IN_SQLITE: [&str; 5] = ["5", "6", "261", "517", "773"];

/// Whether the database is unreachable or busy, so that the same call may succeed later.
pub(super) fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        // A proxy accepts connections and closes them while the server behind it is down, which reads as a broken protocol.
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            // 57P: an operator stops the server, or it starts; 53: it has no connection or memory to spare; 08: the connection
            // to it failed.
            Some(error) => ["57P", "53", "08"].iter().any(|class| error.code().starts_with(class)),
            None => error.code().is_some_and(|code| BUSY_IN_SQLITE.contains(&code.as_ref())),
        },
        _ => false,
    }
}

impl StoreError {
    /// True if the database is unreachable or busy, so that the same call may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        is_unavailable(&self.0)
    }

    /// The error of a call whose task ended without a result.
    #[must_use]
    pub fn task_failed() -> Self {
        Self(sqlx::Error::WorkerCrashed)
    }

    /// The error of a call that has to wait until transactions of others have ended.
    #[must_use]
    pub fn held_back() -> Self {
        let reason = "a transaction has been open for long, and much was stored meanwhile";
        Self(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }

    /// True if the database refused the data itself (a violated constraint, a value that it cannot hold), so that a retry
    /// cannot succeed.
    ///
    /// A violation of uniqueness does not count: each commit has looked up what it writes and leaves out repetitions, so another
    /// commit has come in between, and the next attempt sees what it wrote.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        // The statement was never sent, since one of its values cannot be encoded.
        if matches!(self.0, sqlx::Error::Encode(_)) {
            return true;
        }
        let database = self.0.as_database_error();
        database.is_some_and(|error| refused_by_postgres(error) || refused_by_sqlite(error))
    }
}

/// Matches classes and codes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn refused_by_postgres(error: &dyn DatabaseError) -> bool {
    let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else {
        return false;
    };
    let (class, code) = (error.code().get(..2).unwrap_or_default(), error.code());
    // 22: data exceptions (bytes that are not text, numbers out of range); 54: beyond a limit of the server, such as an
    // index entry that is too long; 23: integrity, without unique violations (23505) and exclusions (23P01).
    matches!(class, "22" | "54") || matches!(code, "23502" | "23503" | "23514")
}

fn refused_by_sqlite(error: &dyn DatabaseError) -> bool {
    error.try_downcast_ref::<SqliteError>().is_some()
        && error.code().is_some_and(|code| REFUSED_BY_SQLITE.contains(&code.as_ref()))
}
