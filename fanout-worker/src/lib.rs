//! The fanout-worker: reads the accept log, commits batches to SQL, and publishes what it committed.
//!
//! ```text
//!  worker registry ──view──┐
//!  claimer, fence poller ──┤
//!                          ▼
//!  log reader ──batch──► pipeline ──► persist ──────────► publisher ──────────────► trimmer
//!  (XREAD)               (decides)    (one transaction:   (room events, receipts)   (ten times a second)
//!                                      rows + cursors)
//! ```
//!
//! Nothing is published before it is committed, and nothing is trimmed before it is published. While one batch is in one step,
//! the next one is in the step before. The worker knows neither HTTP nor tokens.
//!
//! # Where to begin
//!
//! 1. [`ownership`]: which worker stores which partition, and why that is safe.
//! 2. [`pipeline`]: the loop, and the reducer that decides in it.
//! 3. [`log_reader`] and [`persist`]: where batches come from and where they go.
//! 4. [`dead_letters`]: the operators' command for entries that could not be stored.
//!
//! # Words
//!
//! - **Registration**: a worker's entry in the registry, by which it counts as alive for a time. Its heartbeat renews it.
//! - **View**: who was alive at a worker's last heartbeat, and until when the worker may rely on it.
//! - **Assignment**: which partitions a worker should own by its view. **Claim**: that it owns one, in SQL.
//! - **Batch**: entries of several partitions that were read at once; a large one is split into several transactions.
//! - **Dead letter**: an entry that cannot be stored, set aside with the reason in the same transaction as the cursor.

pub mod batch;
mod config;
mod copy;
mod crash_point;
mod dead_letter_encoding;
pub mod dead_letters;
pub mod log_reader;
pub mod ownership;
pub mod persist;
pub mod pipeline;
pub mod publications;
mod publisher;
pub mod search_indexer;
pub mod sqlite_checkpoints;
pub mod trimmer;

pub use config::{Command, Config, DeadLetterAction};
pub use copy::copy_database;
use shared::bootstrap::{self, Binary, BinarySettings, BootstrapError, Context, Fatal};
use shared::lifecycle::Lifecycle;
use shared::settings::{BinaryArgs, EXIT_USAGE};
use shared::storage::{CopyError, Role, StoreError};
use tracing::info;
use uuid::Uuid;

use crate::dead_letters::DeadLetterCommandError;
use crate::pipeline::Pipeline;
use crate::search_indexer::SearchIndexer;

/// This binary.
pub const BINARY: Binary = Binary {
    name: "fanout-worker",
    version: env!("ROOMCAST_VERSION"),
    role: Role::Worker,
};

impl BinarySettings for Config {
    fn common(&self) -> &BinaryArgs {
        &self.common
    }
}

/// Why the worker could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A step of the start that both binaries share failed.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A command did not do everything about dead letters.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterCommandError),
    /// The stop took too long and was cut off. What was not finished is done by the next worker.
    #[error("stopped before the work in hand was finished")]
    CutOff,
}

impl Fatal for StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Bootstrap(error) | Self::DeadLetters(DeadLetterCommandError::Bootstrap(error)) => error.exit_code(),
            Self::Copy(CopyError::Direction) => EXIT_USAGE,
            Self::Copy(CopyError::Open(error)) if error.is_configuration_error() => EXIT_USAGE,
            Self::Store(_) | Self::Copy(_) | Self::DeadLetters(_) | Self::CutOff => 1,
        }
    }
}

/// Applies the migrations and returns.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    let (store, _) = bootstrap::open_store(&config.common.storage, BINARY.role).await?;
    store.close().await;
    info!("migrations applied");
    Ok(())
}

/// Begins a new epoch and returns its number.
pub async fn new_epoch(config: &Config) -> Result<i64, StartError> {
    let (store, _) = bootstrap::open_store(&config.common.storage, BINARY.role).await?;
    let (epoch, number) = store.epoch().await?;
    // Should another one have begun in between, that one will do.
    let _begun = store.begin_epoch(epoch, number + 1, Uuid::new_v4().as_u64_pair().0).await?;
    let (_, number) = store.epoch().await?;
    store.close().await;
    Ok(number)
}

/// Runs the worker until `lifecycle` stops it: on its share of the partitions, which may be none.
pub async fn run(config: &Config, lifecycle: &Lifecycle) -> Result<(), StartError> {
    let Some(context) = Context::open(&BINARY, &config.common, lifecycle).await? else {
        return Ok(());
    };
    let store = context.store.clone();
    lifecycle.tracker.spawn(sqlite_checkpoints::run(store.clone(), lifecycle.soft.clone()));
    context.preflight().await.map_err(BootstrapError::from)?;
    let pipeline = Pipeline::new(context.redis, store.clone(), store.writers(), context.installation);
    let indexer = SearchIndexer {
        store: store.clone(),
        installation: context.installation,
        owned: pipeline.owned_partitions(),
        stored: pipeline.stored_entries(),
    };
    lifecycle.tracker.spawn(indexer.run(lifecycle.soft.clone()));
    pipeline.run(&lifecycle.soft).await;
    store.close().await;
    info!("the worker has stopped");
    Ok(())
}
