//! Opens the file: its settings, the checks that commits are durable, and the lock between processes that start together.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, SqliteExecutor};
use tokio::task::spawn_blocking;

use super::Sqlite;
use crate::bus::MacKey;
use crate::domain::InstallationId;
use crate::storage::connections::{Connections, PoolConnection, Poolable};
use crate::storage::open::{Row, epoch_of};
use crate::storage::schema::is_up_to_date;
use crate::storage::senders::SenderCache;
use crate::storage::sql::installation as sql;
use crate::storage::{HISTORY_CONNECTIONS, Installation, OpenError, Role};

/// Connections for reading everything but history. SQLite reads in parallel with its one writer.
const READERS: usize = 3;

/// Page cache of each connection for history, in KiB: pages of history all over the file share the inner nodes of its trees.
/// SQLite's default is 2 MiB.
const HISTORY_CACHE_KIB: u32 = 8 * 1024;

/// How long a write waits for a write of the other process. Both write in short transactions.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a caller waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages to which the write-ahead log is truncated when it starts over, and from which on it is made to start over.
///
/// Without a bound the log keeps the size of its largest burst for ever. With a smaller one it is truncated and grows again under
/// ordinary load, where a commit adds some 100 KiB and a checkpoint comes after 1,000 pages (`wal_autocheckpoint`).
pub(super) const LOG_PAGES: i64 = 4_000;

/// Bytes of a page, unless the file was created with another size.
const PAGE_BYTES: i64 = 4_096;

/// How long truncating the log waits for readers, while writers wait for it. It can be truncated a second later instead.
const TRUNCATE_TIMEOUT: Duration = Duration::from_millis(100);

/// Versions from 3.7.0 to 3.51.2 can corrupt the write-ahead log when a reset races a checkpoint.
const OLDEST_SOUND: i64 = 3_051_003;

/// The value of `PRAGMA synchronous` with which every commit waits for the disk.
const FULL: i64 = 2;

/// The schema.
pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// The options of every connection to the file at `url`.
pub(crate) fn options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| OpenError::UnknownScheme)?;
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", (LOG_PAGES * PAGE_BYTES).to_string())
        // What is deleted is overwritten, and not just left out of the table: the text of a deleted message is gone.
        .pragma("secure_delete", "ON")
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true))
}

impl Sqlite {
    /// Opens the file at `url`, and creates it if it does not exist.
    pub(crate) async fn open(url: &str, role: Role) -> Result<Self, OpenError> {
        let mut options = options(url)?;
        if role == Role::Gateway {
            // The worker makes the checkpoints, since no caller waits for it. A gateway helps only if the log is long in spite of
            // that, because no worker runs or it finds no gap between the gateway's writes.
            options = options.pragma("wal_autocheckpoint", LOG_PAGES.to_string());
        }
        let path = options.get_filename().to_path_buf();
        create_private(&path).map_err(|error| OpenError::Directory(path.clone(), error))?;
        // The first process changes the file to write-ahead logging, and SQLite does not wait for that: a process that opens the
        // file at that moment would fail because it is locked.
        let lock = lock_start(&path).await?;
        let write = Connections::new(options.clone(), 1, ACQUIRE_TIMEOUT);
        let first: PoolConnection<sqlx::Sqlite> = write.acquire().await?;
        drop(lock);
        first.release_healthy();
        check(&write, &path).await?;
        let checkpoints = Connections::new(options.clone().busy_timeout(TRUNCATE_TIMEOUT), 1, ACQUIRE_TIMEOUT);
        let reading = options.clone().pragma("cache_size", format!("-{HISTORY_CACHE_KIB}"));
        Ok(Self {
            read: Connections::new(options.clone(), READERS, ACQUIRE_TIMEOUT),
            history: Connections::new(reading, HISTORY_CONNECTIONS, ACQUIRE_TIMEOUT),
            watch: Connections::new(options, 1, ACQUIRE_TIMEOUT),
            write,
            checkpoints,
            senders: SenderCache::default(),
            path,
        })
    }

    pub(super) async fn prepare(&self, partitions: u16, random_epoch: u64) -> Result<Installation, OpenError> {
        if let Some(installation) = self.prepared(partitions).await? {
            return Ok(installation);
        }
        let _lock = lock_start(&self.path).await?;
        let mut connection = self.write.acquire().await?;
        // The same as `run`, which does not compile here (`Acquire` is not general enough).
        MIGRATIONS.run_direct(None, &mut *connection, false).await?;
        connection.release_healthy();
        let unfinished: bool = sqlx::query_scalar(sql::UNFINISHED_COPY).fetch_one(&self.write).await?;
        if unfinished {
            return Err(OpenError::UnfinishedCopy);
        }
        sqlx::query(sql::INSERT_INSTALLATION)
            .bind(InstallationId::fresh().to_string())
            .bind(epoch_of(random_epoch))
            .bind(partitions)
            .bind(MacKey::fresh().to_hex())
            .execute(&self.write)
            .await?;
        sqlx::query(
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers, installation WHERE n + 1 < partitions)
             INSERT INTO cursors (partition) SELECT n FROM numbers WHERE true ON CONFLICT (partition) DO NOTHING",
        )
        .execute(&self.write)
        .await?;
        Installation::from_row(sqlx::query_as(sql::READ_INSTALLATION).fetch_one(&self.read).await?, partitions)
    }

    /// The installation, if the schema and all rows exist already. It only reads, since a writer may block the file for long.
    async fn prepared(&self, partitions: u16) -> Result<Option<Installation>, OpenError> {
        let has_migrations = "SELECT COUNT(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
        if sqlx::query_scalar::<_, i64>(has_migrations).fetch_one(&self.read).await? == 0 {
            return Ok(None);
        }
        let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql::APPLIED_MIGRATIONS).fetch_all(&self.read).await?;
        if !is_up_to_date(&MIGRATIONS, &applied)? {
            return Ok(None);
        }
        let cursors: i64 = sqlx::query_scalar(sql::COUNT_CURSORS).fetch_one(&self.read).await?;
        let row: Option<Row> = sqlx::query_as(sql::READ_INSTALLATION).fetch_optional(&self.read).await?;
        let installation = row.map(|row| Installation::from_row(row, partitions)).transpose()?;
        Ok(installation.filter(|installation| cursors >= i64::from(installation.partitions)))
    }
}

impl Poolable for sqlx::Sqlite {
    /// No connection is inside of a transaction: see [`Sqlite::transaction`], which closes one whose transaction does not end.
    async fn is_healthy(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        connection.ping().await.map(|()| true)
    }
}

/// Fails unless commits to the file at `path` are durable.
async fn check(pool: &Connections<sqlx::Sqlite>, path: &Path) -> Result<(), OpenError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(pool).await?;
    let number = version
        .split('.')
        .filter_map(|part| part.parse::<i64>().ok())
        .fold(0, |sum, part| sum * 1000 + part);
    if number < OLDEST_SOUND {
        let why = format!("SQLite {version} can corrupt its write-ahead log; 3.51.3 or newer is needed");
        return Err(OpenError::UnsoundVersion(why));
    }
    check_encoding(pool).await?;
    // The options ask for both. Where write-ahead logging cannot work, SQLite keeps the old mode without an error.
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await?;
    if journal != "wal" || synchronous < FULL {
        return Err(OpenError::Unsafe(format!(
            "the database file {} cannot have a write-ahead log (journal mode {journal}, synchronous {synchronous}): \
             keep it on a local disk, or use Postgres",
            path.display()
        )));
    }
    Ok(())
}

/// Fails unless the file can store every text.
pub(crate) async fn check_encoding<'c>(file: impl SqliteExecutor<'c>) -> Result<(), OpenError> {
    let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(file).await?;
    if encoding == "UTF-8" {
        Ok(())
    } else {
        Err(OpenError::Encoding(encoding))
    }
}

/// Locks out other processes that start on the database at `path`, by a lock on a file beside it.
async fn lock_start(path: &Path) -> Result<File, OpenError> {
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

/// Creates the file if it does not exist, readable by its owner only, since it will contain password hashes. SQLite gives the
/// files beside it the same mode.
pub(crate) fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}
