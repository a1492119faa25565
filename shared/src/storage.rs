//! Users, sessions, rooms and messages in SQL.
//!
//! Methods are use-case sized: a transaction begins and ends inside one of them, and a write runs in a task of its own,
//! so that a caller that goes away (a phone in a tunnel) cannot leave half of it behind.
//!
//! Who writes what: gateways write users, sessions, rooms and members; the worker writes messages, room heads, cursors
//! and dead letters.

mod accounts;
mod append;
mod connect;
mod history;
mod rooms;

pub use accounts::{Account, CreateUserError, NewUser, Session, User};
pub use append::{AppendError, Appended, Claim, Content, Entry, PartitionBatch};
pub use connect::{Installation, OpenError, Role, Store};
pub use history::{HistoryPage, KnownMessage, Window};
pub use rooms::{CreateRoomError, Room};

/// Storage did not answer as it should. The cause is for the log alone.
#[derive(Debug, thiserror::Error)]
#[error("storage failed: {0}")]
pub struct StoreError(#[from] sqlx::Error);

impl StoreError {
    /// True if the database refused the data itself (a broken constraint), so that trying again cannot help.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        let database = self.0.as_database_error();
        database.is_some_and(|error| {
            error.is_unique_violation() || error.is_foreign_key_violation() || error.is_check_violation()
        })
    }
}

/// Runs a write to its end even if the caller is dropped meanwhile.
async fn uninterrupted<T, E, F>(write: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<sqlx::Error> + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    match tokio::spawn(write).await {
        Ok(result) => result,
        Err(_) => Err(E::from(sqlx::Error::WorkerCrashed)),
    }
}
