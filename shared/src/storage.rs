//! The SQL database: users, sessions, rooms, members and messages, on SQLite or Postgres.
//!
//! [`Store`] is the handle. The scheme of the URL selects the back end: SQLite keeps one file and needs no server, Postgres
//! serves any number of hosts. Types and traits are in this directory, one file per topic; `sql` has the statements that both
//! back ends run, `sqlite` and `postgres` implement the traits. One test suite calls every method on both.
//!
//! A method is one use case: a transaction begins and ends inside it. A write runs in a task of its own, so that a caller
//! that is dropped, as when a client disconnects, cannot leave half of the write behind.
//!
//! Gateways write users, sessions, rooms and members; the worker writes messages, room heads, cursors and dead letters.

mod accounts;
mod commit;
mod commit_plan;
mod commit_statements;
mod connections;
mod copy;
mod dead_letters;
mod direct_rooms;
mod error;
mod head_positions;
mod history;
mod open;
mod open_error;
mod outbox;
mod positions;
mod postgres;
mod revocations;
mod rooms;
mod schema;
mod search;
mod senders;
mod sign_ins;
mod sql;
mod sqlite;
mod user_keys;
mod user_rooms;

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;

pub use accounts::{Account, Accounts, CreateUserError, NewUser, Session, User};
pub use commit::{Claim, CommitError, Commits, Committed, Entry, EntryContent, PartitionBatch, RoomEntries};
pub use copy::{CopyError, Progress, copy};
pub use dead_letters::{DeadLetter, DeadLetters};
pub use direct_rooms::{DirectPartner, DirectRooms};
pub use error::StoreError;
pub use head_positions::{HeadPositions, MovedHead};
pub use history::{HISTORY_CONNECTIONS, History, HistoryPage, KnownMessage, KnownPage, RoomHead, Window};
pub use open::{Installation, Role, Writers};
pub use open_error::OpenError;
pub use outbox::Outbox;
pub use positions::{HorizonSample, Positions};
pub use revocations::Revocation;
pub use rooms::{CreateRoom, CreateRoomError, JoinMode, JoinOutcome, Memberships, Room, Rooms};
pub use search::{FoundMessage, Search, SearchError, SearchIndex, SearchPage};
pub use sign_ins::SignIns;
pub use user_rooms::{FollowedRoom, GoneRoom, OwnRooms, ReadMark, RoomState, UserRooms};

use crate::domain::{Epoch, Timestamp};

/// The statements that read lists, for tests that check the query plans.
pub mod list_statements {
    pub use super::postgres::head_positions::MOVED_HEADS as MOVED_HEADS_ON_POSTGRES;
    pub use super::sql::rooms::{LIST_MEMBERS, LIST_ROOMS};
    pub use super::sqlite::head_positions::MOVED_HEADS as MOVED_HEADS_ON_SQLITE;
}

/// An open database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store(Arc<dyn Backend>);

impl Store {
    /// Opens the database at `url` and checks that its commits are durable. It does not change the schema.
    pub async fn open(url: &str, role: Role) -> Result<Self, OpenError> {
        let (scheme, _) = url.split_once(':').ok_or(OpenError::UnknownScheme)?;
        match scheme {
            "sqlite" => Ok(Self(Arc::new(sqlite::Sqlite::open(url, role).await?))),
            "postgres" | "postgresql" => Ok(Self(Arc::new(postgres::Postgres::open(url, role).await?))),
            _ => Err(OpenError::UnknownScheme),
        }
    }

    /// Fails if `url` names an SQLite file that does not exist.
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

    /// [`Commits::commit`] with any future as `before_commit`.
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

/// Everything a back end implements.
#[async_trait]
pub trait Backend:
    Accounts
    + SignIns
    + Rooms
    + OwnRooms
    + DirectRooms
    + History
    + HeadPositions
    + Positions
    + SearchIndex
    + Commits
    + Outbox
    + DeadLetters
    + Debug
    + Send
    + Sync
{
    /// Brings the schema up to date and creates the installation with `partitions` if there is none.
    ///
    /// Of processes that start at the same time, one works while the others wait. `random_epoch` gives a new installation its
    /// epoch.
    async fn migrate(&self, partitions: u16, random_epoch: u64) -> Result<Installation, OpenError>;

    /// The current epoch, which is the version of the whole history, and its number.
    async fn epoch(&self) -> Result<(Epoch, i64), StoreError>;

    /// Begins a new epoch with this `number` and some `random` bits, and returns true, unless another epoch than `known` is
    /// current. From then on every cursor that a client got before is foreign.
    async fn begin_epoch(&self, known: Epoch, number: i64, random: u64) -> Result<bool, StoreError>;

    /// How many workers can write at the same time.
    fn writers(&self) -> Writers;

    /// The number of revocations so far: sessions revoked, memberships ended and rooms deleted. The transaction that revokes
    /// increases it, so if two reads return the same number, nobody lost access between them.
    async fn revocation_count(&self) -> Result<i64, StoreError>;

    /// The revocations above number `after` up to and including number `upto`, in their order; `None` if some of them are no
    /// longer stored: only the last thousand are.
    async fn revocations_between(&self, after: i64, upto: i64) -> Result<Option<Vec<Revocation>>, StoreError>;

    /// Succeeds if the database can be read.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Copies the write-ahead log into the database file, as far as readers allow, so that the log starts over instead of
    /// growing. It does nothing on Postgres, which makes checkpoints itself.
    async fn checkpoint(&self) -> Result<(), StoreError>;

    /// Closes every connection. SQLite merges the write-ahead log into the file when the last one closes.
    async fn close(&self);
}

/// Runs a write in a task of its own, so that it completes even if the caller is dropped.
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
