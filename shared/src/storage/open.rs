//! What both back ends agree on about opening: roles, what identifies the installation, and why a database is refused.

use std::path::PathBuf;

use sqlx::migrate::MigrateError;

use super::StoreError;
use super::error::is_unavailable;
use crate::bus::{InvalidMacKey, KeySpace, MacKey};
use crate::domain::{Epoch, InstallationId, InvalidInstallationId, Partition, RoomId, Timestamp};
use crate::settings::Secret;

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

/// What an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installation {
    /// Which one it is, for ever.
    pub id: InstallationId,
    /// Version of the whole history when it was read; changes only when history was restored or cut.
    pub epoch: Epoch,
    /// Number of accept log partitions, for ever.
    pub partitions: u16,
    /// What waits in Redis under names without an installation is its own: it was created before they had one.
    pub carries_over: bool,
    /// By which its processes know what they wrote into Redis.
    pub mac_key: MacKey,
    /// Until then what its gateways wrote before they knew `mac_key` is taken without a code.
    pub unsigned_until: Timestamp,
    /// From which timestamp of idempotency keys on message ids begin with it: see
    /// [`MessageId::keyed`](crate::domain::MessageId::keyed).
    pub ordered_ids_from: Timestamp,
}

/// The row that [`READ_INSTALLATION`](super::sql::installation::READ_INSTALLATION) selects.
pub(super) type Row = (String, i64, i64, bool, String, i64, i64);

impl Installation {
    /// Takes the row of `installation`, if it has the number of `partitions` that was asked for.
    pub(super) fn from_row(
        (identity, epoch, partitions, carries_over, mac_key, unsigned_until, ordered_ids_from): Row,
        wanted: u16,
    ) -> Result<Self, OpenError> {
        let undecodable = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
        let stored = u16::try_from(partitions).map_err(|error| undecodable(error.into()))?;
        if stored != wanted {
            return Err(OpenError::Partitions { stored, wanted });
        }
        Ok(Self {
            id: identity.parse().map_err(|error: InvalidInstallationId| undecodable(error.into()))?,
            epoch: Epoch(epoch.cast_unsigned()),
            partitions: stored,
            carries_over,
            mac_key: mac_key.parse().map_err(|error: InvalidMacKey| undecodable(error.into()))?,
            unsigned_until: Timestamp(unsigned_until),
            ordered_ids_from: Timestamp(ordered_ids_from),
        })
    }

    /// Its names in Redis.
    #[must_use]
    pub fn key_space(&self) -> KeySpace {
        KeySpace::new(self.id, self.partitions, self.mac_key).accepting_unsigned(self.unsigned_until, self.carries_over)
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
    /// There is no such file, and none was to be made.
    #[error(
        "there is no database file {0}: name yours with DATABASE_URL, or have a new one made with --create-database (CREATE_DATABASE=true)"
    )]
    NoFile(PathBuf),
    /// A newer program has changed the schema.
    #[error("the database has schema {0}, which is newer than this program: start a newer version (DATABASE_URL)")]
    NewerSchema(i64),
    /// The database cannot hold every text.
    #[error(
        "the database is encoded in {0} and cannot hold every message: create it anew with the encoding UTF8 (DATABASE_URL)"
    )]
    Encoding(String),
    /// What was copied into it is not all of an installation.
    #[error("the database is the target of a copy that was broken off: run copy-database again")]
    UnfinishedCopy,
    /// The installation has another number of partitions than the settings say.
    #[error("this installation was created with {stored} partitions and cannot run with {wanted} (PARTITIONS)")]
    Partitions {
        /// The number in the database.
        stored: u16,
        /// The number in the settings.
        wanted: u16,
    },
    /// The database did not answer.
    #[error("cannot open the database: {0}")]
    Store(#[from] StoreError),
    /// The database at this address did not answer.
    #[error("cannot open the database at {0} (DATABASE_URL): {1}")]
    At(String, StoreError),
}

impl OpenError {
    /// True if other settings are needed, so that trying again cannot help.
    #[must_use]
    pub fn is_configuration_error(&self) -> bool {
        match self {
            Self::UnknownScheme
            | Self::BadUrl(_)
            | Self::NoFile(_)
            | Self::NewerSchema(_)
            | Self::Encoding(_)
            | Self::Partitions { .. } => true,
            Self::Directory(..)
            | Self::UnsoundVersion(_)
            | Self::Unsafe(_)
            | Self::UnfinishedCopy
            | Self::Migrate(_)
            | Self::Store(_)
            | Self::At(..) => false,
        }
    }

    /// True if the database is away or busy, so that it may be there later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) | Self::At(_, error) => error.is_unavailable(),
            Self::Migrate(MigrateError::Execute(error)) => is_unavailable(error),
            Self::UnknownScheme
            | Self::BadUrl(_)
            | Self::NoFile(_)
            | Self::NewerSchema(_)
            | Self::Encoding(_)
            | Self::Partitions { .. }
            | Self::Directory(..)
            | Self::UnsoundVersion(_)
            | Self::Unsafe(_)
            | Self::UnfinishedCopy
            | Self::Migrate(_) => false,
        }
    }

    /// The same, with the address of the database where the reason does not name it.
    #[must_use]
    pub fn with_address(self, url: &Secret) -> Self {
        match self {
            Self::Store(error) => Self::At(url.without_login(), error),
            other => other,
        }
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError(error))
    }
}
