//! Users, sessions, rooms and messages in SQL.
//!
//! One [`Store`], two back ends: SQLite (one file, nothing to run) and Postgres (any number of hosts), chosen by the scheme
//! of the URL. Types and traits are here, a file a topic; `sqlite` and `postgres` hold the same files with the SQL.
//! One suite of tests runs every method on both.
//!
//! Methods are use-case sized: a transaction begins and ends inside one of them, and a write runs in a task of its own,
//! so that a caller that goes away (a phone in a tunnel) cannot leave half of it behind.
//!
//! Who writes what: gateways write users, sessions, rooms and members; the worker writes messages, room heads, cursors
//! and dead letters.

mod accounts;
mod commit;
mod commit_plan;
mod connections;
mod copy;
mod dead_letters;
mod error;
mod history;
mod open;
mod postgres;
mod revocations;
mod rooms;
mod schema;
mod senders;
mod sign_ins;
mod sqlite;
mod user_keys;

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;

pub use accounts::{Account, Accounts, CreateUserError, NewUser, Session, User};
pub use commit::{Claim, CommitError, Commits, Committed, Entry, EntryContent, PartitionBatch};
pub use copy::{CopyError, Progress, copy};
pub use dead_letters::{DeadLetter, DeadLetters};
pub use error::StoreError;
pub use history::{HISTORY_CONNECTIONS, History, HistoryPage, KnownMessage, Window, block_in_place_if_large};
pub use open::{Installation, OpenError, Role, Writers};
pub use revocations::Revocation;
pub use rooms::{CreateRoom, CreateRoomError, JoinMode, JoinOutcome, Memberships, Room, Rooms};
pub use sign_ins::SignIns;

use crate::domain::{Epoch, Timestamp};

/// The statements of lists, for tests that ask a database how it would run them.
pub mod list_statements {
    pub use super::postgres::lists as postgres;
    pub use super::sqlite::lists as sqlite;
}

/// The open database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store(Arc<dyn Backend>);

impl Store {
    /// Opens the database at `url` and checks that it keeps what it is given. The schema is not touched.
    pub async fn open(url: &str, role: Role) -> Result<Self, OpenError> {
        let (scheme, _) = url.split_once(':').ok_or(OpenError::UnknownScheme)?;
        match scheme {
            "sqlite" => Ok(Self(Arc::new(sqlite::Sqlite::open(url, role).await?))),
            "postgres" | "postgresql" => Ok(Self(Arc::new(postgres::Postgres::open(url, role).await?))),
            _ => Err(OpenError::UnknownScheme),
        }
    }

    /// Fails if `url` names a file that is not there.
    pub fn check_exists(url: &str) -> Result<(), OpenError> {
        if !url.starts_with("sqlite:") {
            return Ok(());
        }
        let path = sqlite::open::options(url)?.get_filename().to_path_buf();
        if path.exists() {
            Ok(())
        } else {
            Err(OpenError::NoFile(path))
        }
    }

    /// [`Commits::commit`] with any future to run before the commit.
    pub async fn commit(
        &self,
        batches: Arc<[PartitionBatch]>,
        now: Timestamp,
        before_commit: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Committed, CommitError> {
        self.0.commit(batches, now, Box::pin(before_commit)).await
    }
}

impl Deref for Store {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

/// Everything a database does for us.
#[async_trait]
pub trait Backend: Accounts + SignIns + Rooms + History + Commits + DeadLetters + Debug + Send + Sync {
    /// Brings the schema up to date and creates the installation with `partitions` if there is none.
    ///
    /// Processes that start together take turns. The epoch of a new installation comes from `random_epoch`.
    async fn migrate(&self, partitions: u16, random_epoch: u64) -> Result<Installation, OpenError>;

    /// The version of the whole history, and its number, as they are now.
    async fn epoch(&self) -> Result<(Epoch, i64), StoreError>;

    /// Begins a new epoch, the one of this `number` and of some `random` bits, unless another one than `known` has begun
    /// meanwhile; true if it did. Cursors of clients from before are foreign from then on.
    async fn begin_epoch(&self, known: Epoch, number: i64, random: u64) -> Result<bool, StoreError>;

    /// How many workers can be at work at the same time.
    fn writers(&self) -> Writers;

    /// How many sessions were revoked, memberships ended and rooms deleted so far. It moves in the transaction that does
    /// it: whoever reads the same number twice knows that everybody who was in is still in.
    async fn revocation_count(&self) -> Result<i64, StoreError>;

    /// What was taken away from the removal behind number `after` to number `upto`, in this order; `None` if that is not
    /// known any more, since only the last thousand are.
    async fn revocations_between(&self, after: i64, upto: i64) -> Result<Option<Vec<Revocation>>, StoreError>;

    /// Answers if the database can be read.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Brings what the write-ahead log holds into the file, as far as readers let it, so that the log begins anew instead of
    /// growing. There is nothing to do on Postgres, which sees to it itself.
    async fn checkpoint(&self) -> Result<(), StoreError>;

    /// Closes every connection; with SQLite, the write-ahead log is merged into the file.
    async fn close(&self);
}

/// Runs a write to its end even if the caller is dropped meanwhile.
async fn run_detached<T, E, F>(write: F) -> Result<T, E>
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
