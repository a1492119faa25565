//! What both back ends agree on about opening: roles, what identifies the installation, and why a database is refused.

use std::path::PathBuf;

use sqlx::migrate::MigrateError;

use super::StoreError;
use crate::domain::{Epoch, Partition, RoomId};

/// Which of the two processes opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Rare writes, many reads.
    Gateway,
    /// The batch writer.
    Worker,
}

/// How many workers a database serves at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// One; others stand by. A SQLite file has one writer.
    One,
    /// As many as there are partitions.
    Many,
}

/// What is fixed when an installation is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installation {
    /// Version of the whole history; changes only when it was restored or cut.
    pub epoch: Epoch,
    /// Number of accept log partitions.
    pub partitions: u16,
}

impl Installation {
    /// Reads the row of `installation`, if it has the number of `partitions` that was asked for.
    pub(super) fn read((epoch, partitions): (i64, i64), wanted: u16) -> Result<Self, OpenError> {
        let stored = u16::try_from(partitions).map_err(|error| sqlx::Error::Decode(error.into()))?;
        if stored != wanted {
            return Err(OpenError::Partitions { stored, wanted });
        }
        Ok(Self {
            epoch: Epoch(epoch.cast_unsigned()),
            partitions: stored,
        })
    }

    /// The partition through which `room`'s messages travel.
    #[must_use]
    pub fn partition_of(&self, room: RoomId) -> Partition {
        Partition::of(room, self.partitions)
    }
}

/// An epoch of at most 53 bits, whose decimal digits stay exact in every JSON reader.
pub(super) fn epoch_of(random: u64) -> i64 {
    (random & ((1 << 53) - 1)).cast_signed()
}

/// Why the database could not be opened; each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database this build knows.
    #[error("DATABASE_URL must be of the form sqlite://<path> or postgres://[user:password@]host[:port]/database")]
    UnknownScheme,
    /// The URL is of a known form, and something in it cannot be read. The reason names no password.
    #[error("DATABASE_URL cannot be read: {0}")]
    BadUrl(String),
    /// The file, its directory or the lock file cannot be made.
    #[error("cannot use the database file {0}: {1}")]
    Directory(PathBuf, std::io::Error),
    /// The database's program is too old.
    #[error("{0}")]
    UnsoundVersion(String),
    /// The database would lose what it is given.
    #[error("{0}")]
    Unsafe(String),
    /// The schema could not be brought up to date.
    #[error("cannot apply migrations: {0}")]
    Migrate(#[from] MigrateError),
    /// The installation has another number of partitions than the settings say.
    #[error("this installation was created with {stored} partitions and cannot run with {wanted}")]
    Partitions {
        /// The number in the database.
        stored: u16,
        /// The number in the settings.
        wanted: u16,
    },
    /// The database did not answer.
    #[error("cannot open the database: {0}")]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError(error))
    }
}
