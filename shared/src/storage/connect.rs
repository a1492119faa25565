//! Opening the database: its settings, its migrations and what identifies the installation.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::task::spawn_blocking;

use super::StoreError;
use crate::domain::{Epoch, Partition, RoomId};

/// Connections for reading. SQLite reads in parallel with its one writer.
const READERS: u32 = 4;

/// How long a write waits for the other process's write. Both write in short transactions.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a caller waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Versions from 3.7.0 to 3.51.2 can corrupt the write-ahead log when a reset races a checkpoint.
const OLDEST_SOUND_SQLITE: i64 = 3_051_003;

/// Which of the two processes opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Rare writes, many reads; leaves checkpoints to the worker.
    Gateway,
    /// The batch writer.
    Worker,
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
    /// The partition through which `room`'s messages travel.
    #[must_use]
    pub fn partition_of(&self, room: RoomId) -> Partition {
        Partition::of(room, self.partitions)
    }
}

/// Why the database could not be opened; each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database this build knows.
    #[error("DATABASE_URL must be of the form sqlite://<path>")]
    UnknownScheme,
    /// The file, its directory or the lock file cannot be made.
    #[error("cannot use the database file {0}: {1}")]
    Directory(PathBuf, std::io::Error),
    /// SQLite is older than the first sound version.
    #[error("SQLite {0} can corrupt its write-ahead log; 3.51.3 or newer is needed")]
    UnsoundVersion(String),
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

/// The open database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    /// For reading; any number of readers run beside the writer.
    pub(super) read: SqlitePool,
    /// One connection, since the file has one writer.
    pub(super) write: SqlitePool,
    path: PathBuf,
}

impl Store {
    /// Opens the database at `url`, creating it if it is not there. The schema is not touched.
    pub async fn open(url: &str, role: Role) -> Result<Self, OpenError> {
        if !url.starts_with("sqlite:") {
            return Err(OpenError::UnknownScheme);
        }
        let mut options = SqliteConnectOptions::from_str(url)
            .map_err(|_| OpenError::UnknownScheme)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        if role == Role::Gateway {
            options = options.pragma("wal_autocheckpoint", "0");
        }
        let path = options.get_filename().to_path_buf();
        create_private(&path).map_err(|error| OpenError::Directory(path.clone(), error))?;
        let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT);
        // The first to come changes the file to write-ahead logging, and SQLite does not wait for that: whoever opens the
        // file at that moment would be told that it is locked.
        let lock = take_turns(&path).await?;
        let write = pool(1).connect_with(options.clone()).await?;
        drop(lock);
        let read = pool(READERS).connect_lazy_with(options);
        let store = Self { read, write, path };
        store.check_version().await?;
        Ok(store)
    }

    async fn check_version(&self) -> Result<(), OpenError> {
        let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&self.write).await?;
        let number = version
            .split('.')
            .filter_map(|part| part.parse::<i64>().ok())
            .fold(0, |sum, part| sum * 1000 + part);
        if number < OLDEST_SOUND_SQLITE {
            return Err(OpenError::UnsoundVersion(version));
        }
        Ok(())
    }

    /// Brings the schema up to date and creates the installation with `partitions` if there is none.
    ///
    /// Processes that start together take turns by a lock on a file beside the database.
    pub async fn migrate(&self, partitions: u16, random_epoch: u64) -> Result<Installation, OpenError> {
        let _lock = take_turns(&self.path).await?;
        sqlx::migrate!("../migrations/sqlite").run(&self.write).await?;
        // Decimal digits of an epoch stay exact in every JSON reader: at most 53 bits.
        let epoch = (random_epoch & ((1 << 53) - 1)).cast_signed();
        sqlx::query("INSERT INTO installation (id, epoch, partitions) VALUES (1, ?, ?) ON CONFLICT (id) DO NOTHING")
            .bind(epoch)
            .bind(partitions)
            .execute(&self.write)
            .await?;
        sqlx::query(
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers, installation WHERE n + 1 < partitions)
             INSERT INTO cursors (partition) SELECT n FROM numbers WHERE true ON CONFLICT (partition) DO NOTHING",
        )
        .execute(&self.write)
        .await?;
        let installation = self.installation().await?;
        if installation.partitions != partitions {
            return Err(OpenError::Partitions {
                stored: installation.partitions,
                wanted: partitions,
            });
        }
        Ok(installation)
    }

    /// What was fixed when this installation was created.
    async fn installation(&self) -> Result<Installation, StoreError> {
        let (epoch, partitions): (i64, u16) = sqlx::query_as("SELECT epoch, partitions FROM installation WHERE id = 1")
            .fetch_one(&self.read)
            .await?;
        Ok(Installation {
            epoch: Epoch(epoch.cast_unsigned()),
            partitions,
        })
    }

    /// Answers if the database can be read.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM installation").execute(&self.read).await?;
        Ok(())
    }

    /// Closes every connection, after which the write-ahead log is merged into the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// Waits until no other process that starts is at work on the database at `path`, by a lock on a file beside it.
async fn take_turns(path: &Path) -> Result<File, OpenError> {
    let mut path = path.to_path_buf().into_os_string();
    path.push(".start-lock");
    let path = PathBuf::from(path);
    let named = path.clone();
    let locked = spawn_blocking(move || {
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    });
    let locked = locked.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    locked.map_err(|error| OpenError::Directory(named, error))
}

/// Makes the file if it is not there, for our eyes only: it will hold password hashes. SQLite gives the files it puts
/// beside it the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}
