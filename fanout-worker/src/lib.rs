//! The fanout-worker: accept log in → batch → SQL → room events out.
//!
//! ```text
//! source (XREAD) ──► persist (one transaction: rows + cursors) ──► publish (room events, receipts), trim
//! ```
//!
//! - [`ownership`] says which worker stores which partition, and why it is safe; read it first.
//! - [`pipeline`] runs the three steps in their order: nothing is published before it is committed, and nothing is
//!   trimmed before it is published. While one batch is in one step, the next is in the step before; what is stored is
//!   trimmed ten times a second.
//! - [`dead_letters`] is for operators: what became of entries that could not be stored.
//! - It knows neither HTTP nor tokens.

pub mod batch;
pub mod checkpoints;
mod config;
mod copy;
mod crash_point;
pub mod dead_letters;
pub mod ownership;
pub mod persist;
pub mod pipeline;
pub mod publish;
pub mod source;
mod telling;
pub mod trimming;

pub use config::{Command, Config, DeadLetters};
pub use copy::copy_database;
use shared::bus::{InvalidRedisSettings, PreflightError, RedisConnector};
use shared::lifecycle::Lifecycle;
use shared::settings::EXIT_USAGE;
use shared::start::{open_once, open_when_there, say_what_starts};
use shared::storage::{CopyError, OpenError, Role, StoreError};
use tracing::info;
use uuid::Uuid;

use crate::pipeline::Pipeline;

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
    Redis(#[from] InvalidRedisSettings),
    /// Redis does not keep what it accepts, or lets nobody in.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Nothing was done about some dead letters; the others were dealt with.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    DeadLetters(Vec<dead_letters::Undone>),
    /// The stop took too long and was cut off. What was not finished is done by the next worker.
    #[error("stopped before the work in hand was finished")]
    CutOff,
}

impl StartError {
    /// 64 for settings that cannot work, 1 for what may work the next time.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::LogFilter(_) | Self::Redis(_) | Self::Preflight(_) | Self::Copy(CopyError::Direction) => EXIT_USAGE,
            Self::Open(error) | Self::Copy(CopyError::Open(error)) if error.is_configuration_error() => EXIT_USAGE,
            Self::Signals(_) | Self::Open(_) | Self::Store(_) | Self::Copy(_) | Self::DeadLetters(_) | Self::CutOff => {
                1
            }
        }
    }
}

/// Applies the migrations and returns.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    let (store, _) = open_once(&config.storage, Role::Worker).await?;
    store.close().await;
    info!("migrations applied");
    Ok(())
}

/// Begins a new epoch and returns its number.
pub async fn new_epoch(config: &Config) -> Result<i64, StartError> {
    let (store, _) = open_once(&config.storage, Role::Worker).await?;
    let (epoch, number) = store.epoch().await?;
    // Should another one have begun in between, that one will do.
    let _begun = store.begin_epoch(epoch, number + 1, Uuid::new_v4().as_u64_pair().0).await?;
    let (_, number) = store.epoch().await?;
    store.close().await;
    Ok(number)
}

/// Runs the worker until `lifecycle` stops it: on its share of the partitions, which may be none.
pub async fn run(config: &Config, lifecycle: &Lifecycle) -> Result<(), StartError> {
    RedisConnector::check_settings(&config.redis)?;
    let Some((store, installation)) = open_when_there(&config.storage, Role::Worker, &lifecycle.soft).await? else {
        return Ok(());
    };
    let redis = RedisConnector::open(&config.redis, installation.key_space(), lifecycle.soft.clone())?;
    let settings = (&config.storage, &config.redis);
    say_what_starts("fanout-worker", env!("ROOMCAST_VERSION"), settings, &installation);
    lifecycle.tracker.spawn(checkpoints::keep(store.clone(), lifecycle.soft.clone()));
    let writers = store.writers();
    let looked = redis.wait_until_safe(config.redis.allow_unsafe_redis, &lifecycle.soft).await?;
    let (watched, soft) = (redis.clone(), lifecycle.soft.clone());
    lifecycle.tracker.spawn(async move { watched.watch_settings(looked, &soft).await });
    let pipeline = Pipeline::new(redis, store.clone(), writers, installation);
    pipeline.run(&lifecycle.soft).await;
    store.close().await;
    info!("the worker has stopped");
    Ok(())
}
