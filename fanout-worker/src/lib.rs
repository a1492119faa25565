//! The fanout-worker: accept log in → batch → SQL → room events out.
//!
//! ```text
//! source (XREAD) ──► persist (one transaction: rows + cursors) ──► publish (room events, trim)
//! ```
//!
//! - [`lease`] decides which worker is at work; a fence number in SQL makes sure of it.
//! - [`pipeline`] runs the three steps in their order: nothing is published before it is committed, and nothing is
//!   trimmed before it is published.
//! - It knows neither HTTP nor tokens.

mod config;
mod copy;
mod crash_point;
pub mod lease;
pub mod persist;
pub mod pipeline;
pub mod publish;
pub mod source;

use std::time::Duration;

pub use config::{Command, Config};
pub use copy::copy_database;
use shared::bus::{InvalidRedis, Redis, Unsafe};
use shared::domain::Partition;
use shared::lifecycle::Lifecycle;
use shared::settings::EXIT_USAGE;
use shared::storage::{CopyError, OpenError, Role, Store};
use tracing::{info, warn};
use uuid::Uuid;

use crate::lease::Lease;
use crate::pipeline::{Pipeline, Stopped};

/// Pause after a failure at start or takeover, before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Why the worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log filter cannot be read.
    #[error("ROOMCAST_LOG is not a filter: {0}")]
    LogFilter(#[from] shared::telemetry::InvalidFilter),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// The settings lead to no Redis.
    #[error(transparent)]
    Redis(#[from] InvalidRedis),
    /// Redis does not keep what it accepts, or lets nobody in.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The stop took too long and was cut off. What was not finished is done by the next worker.
    #[error("stopped before the work in hand was finished")]
    CutOff,
}

impl StartError {
    /// 64 for settings that cannot work, 1 for what may work the next time.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::LogFilter(_)
            | Self::Redis(_)
            | Self::Unsafe(_)
            | Self::Open(OpenError::UnknownScheme | OpenError::BadUrl(_) | OpenError::Partitions { .. })
            | Self::Copy(CopyError::Direction) => EXIT_USAGE,
            Self::Signals(_) | Self::Open(_) | Self::Copy(_) | Self::CutOff => 1,
        }
    }
}

/// Opens the store with an up-to-date schema.
async fn open_store(config: &Config) -> Result<Store, OpenError> {
    let store = Store::open(config.storage.database_url.expose(), Role::Worker).await?;
    store.migrate(config.storage.partitions, Uuid::new_v4().as_u64_pair().0).await?;
    Ok(store)
}

/// Applies the migrations and returns.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    open_store(config).await?.close().await;
    info!("migrations applied");
    Ok(())
}

/// Runs the worker until `lifecycle` stops it: as the active one when it gets the lease, standing by until then.
pub async fn run(config: &Config, lifecycle: &Lifecycle) -> Result<(), StartError> {
    let redis = Redis::open(&config.redis, lifecycle.soft.clone())?;
    let store = open_store(config).await?;
    let known = redis.wait_until_safe(config.redis.allow_unsafe_redis, &lifecycle.soft).await?;
    let (masters, soft) = (redis.clone(), lifecycle.soft.clone());
    lifecycle.tracker.spawn(async move { masters.watch_new_masters(known, &soft).await });
    let shared_connection = redis.connect();
    let partitions: Vec<_> = (0..config.storage.partitions).map(Partition).collect();
    let name = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
    info!(worker.name = name, "worker {name} stands by");
    while !lifecycle.soft.is_cancelled() {
        let Some(lease) = Lease::acquire(shared_connection.clone(), &name, &lifecycle.soft).await else {
            break;
        };
        let pipeline = Pipeline {
            redis: redis.clone(),
            connection: shared_connection.clone(),
            store: store.clone(),
        };
        let stop = lease.lost_or(&lifecycle.soft);
        match store.claim(&partitions, &name).await {
            Ok(claims) => {
                info!(worker.name = name, partitions = claims.len(), "worker {name} is at work");
                match pipeline.run(claims, &stop).await {
                    Stopped::Asked => {}
                    Stopped::Fenced => warn!("another worker has taken over"),
                }
            }
            Err(error) => {
                warn!(error = %error, "cannot take over the partitions: {error}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        lease.release().await;
    }
    store.close().await;
    info!("worker {name} has stopped");
    Ok(())
}
