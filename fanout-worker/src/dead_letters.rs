//! The command `dead-letters`: lists, shows, replays and drops accepted entries that could not be stored.
//!
//! A replay appends the entry to the accept log of its room's partition and then removes the dead letter, in this order: if
//! something fails in between, both are there, and the message id makes one message of an entry that comes twice. An entry that
//! is not a message (a field is missing or not valid) would become a dead letter again and is therefore not replayed.

mod output;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncCommands as _, RedisError};
use shared::bootstrap::{BootstrapError, open_store};
use shared::bus::{RedisClient, RedisConnector, decode_unverified_entry, encode_command};
use shared::storage::{DeadLetter, Installation, Role, Store, StoreError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, DeadLetterAction};
use crate::dead_letter_encoding as encoding;

/// How long a replay waits for Redis.
const REDIS_WITHIN: Duration = Duration::from_secs(5);

/// Why a command did nothing about a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// No dead letter has this id.
    #[error("there is no dead letter {0}")]
    Unknown(i64),
    /// The entry is not a message.
    #[error("dead letter {0} cannot be replayed: {1}")]
    NoMessage(i64, String),
    /// Redis did not confirm that it has the entry. Replaying again is safe.
    #[error("dead letter {0} is kept, Redis did not take it: {1}")]
    NotAppended(i64, RedisError),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a command did not do everything.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterCommandError {
    /// The database or Redis could not be used.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Nothing was done about some dead letters; the others were dealt with.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Undone(Vec<DeadLetterError>),
}

/// Runs the command `action` and writes its output to `out`.
pub async fn run(
    config: &Config,
    action: &DeadLetterAction,
    out: &mut impl Write,
) -> Result<(), DeadLetterCommandError> {
    let (store, installation) = open_store(&config.common.storage, Role::Worker).await?;
    let errors = match action {
        DeadLetterAction::List { after, limit, json } => {
            let shown = list(&store, *after, *limit, *json).await;
            output_of(out, shown)
        }
        DeadLetterAction::Show { id } => output_of(out, find(&store, *id).await.map(|letter| output::whole(&letter))),
        DeadLetterAction::Replay { ids } => {
            let mut redis = connect(config, installation).await?;
            let mut errors = Vec::new();
            for id in ids {
                errors.extend(output_of(out, replay(&store, &mut redis, installation, *id).await));
            }
            errors
        }
        DeadLetterAction::Drop { ids } => {
            let mut errors = Vec::new();
            for id in ids {
                errors.extend(output_of(out, drop_one(&store, *id).await));
            }
            errors
        }
    };
    store.close().await;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(DeadLetterCommandError::Undone(errors))
    }
}

/// A client of Redis, which is as usable as Redis is within [`REDIS_WITHIN`].
async fn connect(config: &Config, installation: Installation) -> Result<RedisClient, BootstrapError> {
    let stop = CancellationToken::new();
    let redis = RedisConnector::open(&config.common.redis, installation.key_space(), stop.clone())?;
    // If Redis is away, each replay says so.
    if let Ok(report) =
        timeout(REDIS_WITHIN, redis.wait_until_safe(config.common.redis.allow_unsafe_redis, &stop)).await
    {
        report?;
    }
    Ok(redis.client())
}

/// Writes the output of one action; returns its error.
fn output_of(out: &mut impl Write, done: Result<String, DeadLetterError>) -> Vec<DeadLetterError> {
    match done {
        Ok(text) => {
            // If standard output is closed, there is no other place for it.
            let _ = out.write_all(text.as_bytes());
            Vec::new()
        }
        Err(error) => vec![error],
    }
}

async fn list(store: &Store, after: i64, limit: u32, json: bool) -> Result<String, DeadLetterError> {
    let letters = store.dead_letters(after, limit).await?;
    Ok(if json {
        output::json_lines(&letters)
    } else if letters.is_empty() {
        "no dead letters\n".to_owned()
    } else {
        output::table(&letters)
    })
}

async fn find(store: &Store, id: i64) -> Result<DeadLetter, DeadLetterError> {
    store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))
}

async fn replay(
    store: &Store,
    redis: &mut RedisClient,
    installation: Installation,
    id: i64,
) -> Result<String, DeadLetterError> {
    let letter = find(store, id).await?;
    let no_message = |reason: String| DeadLetterError::NoMessage(id, reason);
    let fields = encoding::decode(&letter.entry).ok_or_else(|| no_message("it is not in a known form".to_owned()))?;
    let keys = Arc::clone(redis.key_space());
    let command = decode_unverified_entry(&fields, &keys).map_err(|error| no_message(error.to_string()))?;
    let partition = installation.partition_of(command.room());
    let appended: Result<String, RedisError> =
        redis.xadd(keys.accept_stream(partition), "*", &encode_command(&command, &keys)).await;
    let log_entry_id = appended.map_err(|error| DeadLetterError::NotAppended(id, error))?;
    store.drop_dead_letter(id).await?;
    Ok(format!("{id} replayed: appended to partition {partition} as {log_entry_id}\n"))
}

async fn drop_one(store: &Store, id: i64) -> Result<String, DeadLetterError> {
    if store.drop_dead_letter(id).await? {
        Ok(format!("{id} dropped\n"))
    } else {
        Err(DeadLetterError::Unknown(id))
    }
}
