//! Why a database could not be opened.

use std::path::PathBuf;

use sqlx::migrate::MigrateError;

use super::StoreError;
use super::error::is_unavailable;
use crate::settings::Secret;

/// Why the database could not be opened. Each message is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database this build knows.
    #[error("DATABASE_URL must be of the form sqlite://<path> or postgres://[user:password@]host[:port]/database")]
    UnknownScheme,
    /// The URL has a known scheme, but a part of it cannot be parsed. The reason contains no password.
    #[error("DATABASE_URL cannot be read: {0}")]
    BadUrl(String),
    /// The file, its directory or the lock file cannot be created.
    #[error("cannot use the database file {0}: {1}")]
    Directory(PathBuf, std::io::Error),
    /// The version of the database software is too old.
    #[error("{0}")]
    UnsoundVersion(String),
    /// The database would lose committed data in a crash.
    #[error("{0}")]
    Unsafe(String),
    /// The schema could not be brought up to date.
    #[error("cannot apply migrations: {0}")]
    Migrate(#[from] MigrateError),
    /// The file does not exist and should not be created.
    #[error(
        "there is no database file {0}: name yours with DATABASE_URL, or have a new one made with --create-database (CREATE_DATABASE=true)"
    )]
    NoFile(PathBuf),
    /// A newer version of the program has migrated the schema.
    #[error("the database has schema {0}, which is newer than this program: start a newer version (DATABASE_URL)")]
    NewerSchema(i64),
    /// The database cannot hold every text.
    #[error(
        "the database is encoded in {0} and cannot hold every message: create it anew with the encoding UTF8 (DATABASE_URL)"
    )]
    Encoding(String),
    /// The database is the target of a copy that did not complete.
    #[error("the database is the target of a copy that was broken off: run copy-database again")]
    UnfinishedCopy,
    /// The installation has another number of partitions than the settings.
    #[error("this installation was created with {stored} partitions and cannot run with {wanted} (PARTITIONS)")]
    Partitions {
        /// The number in the database.
        stored: u16,
        /// The number in the settings.
        wanted: u16,
    },
    /// A statement failed or was not answered.
    #[error("cannot open the database: {0}")]
    Store(#[from] StoreError),
    /// A statement failed or was not answered by the database at this address.
    #[error("cannot open the database at {0} (DATABASE_URL): {1}")]
    At(String, StoreError),
}

impl OpenError {
    /// True if other settings are needed, so that a retry cannot succeed.
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

    /// True if the database is unreachable or busy, so that a retry may succeed.
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

    /// Adds the address of the database, if the message does not name it yet.
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
