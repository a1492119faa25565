//! Connects to the server: the time-outs of every connection, and the checks that commits are durable.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::timeout;

use super::Postgres;
use crate::bus::MacKey;
use crate::domain::InstallationId;
use crate::storage::connections::{Connections, Poolable};
use crate::storage::open::{Row, epoch_of};
use crate::storage::schema::is_up_to_date;
use crate::storage::senders::SenderCache;
use crate::storage::sql::installation as sql;
use crate::storage::{HISTORY_CONNECTIONS, Installation, OpenError, Role};

/// Connections of a gateway for everything but history and the watch for revocations, which have their own: eight in all. A
/// server allows 100 by default, enough for eight gateways and as many workers.
const GATEWAY_CONNECTIONS: usize = 3;

/// Connections of a worker, with a fourth that reads what is to be indexed for searches: one commits while the others claim
/// partitions and write the index.
const WORKER_CONNECTIONS: usize = 3;

/// How long a caller waits for a free connection, or for one to open.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// The application name of a worker's connections, by which another worker that claims its partitions recognises them.
pub(super) const WORKER_NAME: &str = "roomcast-worker";

/// The application name of a gateway's connections.
const GATEWAY_NAME: &str = "roomcast-gateway";

/// The oldest version that is accepted: its developers still maintain it, and it is tested.
const OLDEST_SERVER: i64 = 14;

/// Time-outs by which the server itself ends what a connection leaves unfinished. A worker that is paused (or whose machine is, or
/// the network between) in the middle of a commit keeps the rows of its partitions locked. Only the server can end that, and
/// another worker must be able to claim them within 3 s.
const TIMEOUTS: [(&str, &str); 7] = [
    // The client of an open transaction is silent, so it is paused: a commit sends its statements without a break.
    ("idle_in_transaction_session_timeout", "1s"),
    // Longer than that, so that a commit waits until the server has ended such a transaction. A claim has a shorter one: see
    // `claim`.
    ("lock_timeout", "2500ms"),
    // A batch takes milliseconds.
    ("statement_timeout", "5s"),
    // The client is cut off: a probe after a second of silence is not answered, or sent data is not acknowledged.
    ("tcp_keepalives_idle", "1"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "1"),
    ("tcp_user_timeout", "2000"),
];

/// The schema.
pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// The options of every connection to the server at `url`, without the time-outs.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    // The error's text contains no part of the URL.
    let options = PgConnectOptions::from_str(url).map_err(|error| OpenError::BadUrl(error.to_string()))?;
    Ok(options.application_name("roomcast"))
}

impl Postgres {
    /// Connects to the server at `url`.
    pub(crate) async fn open(url: &str, role: Role) -> Result<Self, OpenError> {
        let plain = options(url)?;
        let mut first = timeout(ACQUIRE_TIMEOUT, plain.connect()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        check(&mut first).await?;
        first.close().await?;
        let (size, name) = match role {
            Role::Gateway => (GATEWAY_CONNECTIONS, GATEWAY_NAME),
            Role::Worker => (WORKER_CONNECTIONS, WORKER_NAME),
        };
        let plain = plain.application_name(name);
        let pool = |size| Connections::new(plain.clone().options(TIMEOUTS), size, ACQUIRE_TIMEOUT);
        Ok(Self {
            pool: pool(size),
            history: pool(HISTORY_CONNECTIONS),
            watch: pool(1),
            migration_options: plain,
            senders: SenderCache::default(),
        })
    }

    pub(super) async fn prepare(&self, partitions: u16, random_epoch: u64) -> Result<Installation, OpenError> {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = pool.connect_with(self.migration_options.clone()).await?;
        if let Some(installation) = prepared(&pool, partitions).await? {
            pool.close().await;
            return Ok(installation);
        }
        // It takes an advisory lock, so of processes that start together one migrates while the others wait.
        MIGRATIONS.run(&pool).await?;
        let unfinished: bool = sqlx::query_scalar(sql::UNFINISHED_COPY).fetch_one(&pool).await?;
        if unfinished {
            return Err(OpenError::UnfinishedCopy);
        }
        let mut tx = pool.begin().await?;
        // A second process waits here for the commit of the first, and then finds its row.
        sqlx::query(sql::INSERT_INSTALLATION)
            .bind(InstallationId::fresh().to_string())
            .bind(epoch_of(random_epoch))
            .bind(i64::from(partitions))
            .bind(MacKey::fresh().to_hex())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO cursors (partition)
             SELECT generate_series(0, partitions - 1) FROM installation ON CONFLICT (partition) DO NOTHING",
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query_as(sql::READ_INSTALLATION).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        pool.close().await;
        Installation::from_row(row, partitions)
    }
}

/// The installation, if the schema and all rows exist already.
async fn prepared(pool: &PgPool, partitions: u16) -> Result<Option<Installation>, OpenError> {
    let has_migrations = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(has_migrations).fetch_one(pool).await? {
        return Ok(None);
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql::APPLIED_MIGRATIONS).fetch_all(pool).await?;
    if !is_up_to_date(&MIGRATIONS, &applied)? {
        return Ok(None);
    }
    let cursors: i64 = sqlx::query_scalar(sql::COUNT_CURSORS).fetch_one(pool).await?;
    let row: Option<Row> = sqlx::query_as(sql::READ_INSTALLATION).fetch_optional(pool).await?;
    let installation = row.map(|row| Installation::from_row(row, partitions)).transpose()?;
    Ok(installation.filter(|installation| cursors >= i64::from(installation.partitions)))
}

impl Poolable for sqlx::Postgres {
    async fn is_healthy(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        // The two are equal in the first statement of a transaction, which this is unless one is open. It is sent as one message
        // (`raw_sql`): a prepared statement begins with one message and runs with a later one.
        let outside = sqlx::raw_sql("SELECT transaction_timestamp() = statement_timestamp()");
        outside.fetch_one(connection).await?.try_get(0)
    }
}

/// Fails unless commits to the server are durable.
pub(crate) async fn check(connection: &mut PgConnection) -> Result<(), OpenError> {
    let version: i64 = sqlx::query_scalar("SELECT current_setting('server_version_num')::bigint")
        .fetch_one(&mut *connection)
        .await?;
    let version = version / 10_000;
    if version < OLDEST_SERVER {
        let why = format!("Postgres {version} is too old; {OLDEST_SERVER} or newer is needed");
        return Err(OpenError::UnsoundVersion(why));
    }
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding(encoding));
    }
    let broken: Vec<String> = sqlx::query_scalar(
        "SELECT name || ' = ' || setting FROM pg_settings
         WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name",
    )
    .fetch_all(connection)
    .await?;
    if broken.is_empty() {
        Ok(())
    } else {
        Err(OpenError::Unsafe(format!(
            "this Postgres would lose committed messages in a crash ({}): switch that on",
            broken.join(", ")
        )))
    }
}
