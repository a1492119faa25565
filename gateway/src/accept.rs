//! Accepting a message: from here on it is never lost.
//!
//! A message is accepted when it is in its partition's stream in Redis, which is on disk by then. All requests share
//! one connection, whose pipeline makes one write of what many of them append at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{AsyncCommands as _, ExistenceCheck, RedisError, RedisResult, SetExpiry, SetOptions};
use shared::bus::{Link, accept_stream, encode_entry, is_refusal};
use shared::domain::{Accepted, IdempotencyKey, MessageId, MessageText, Partition, RoomId, Timestamp};
use shared::storage::{Installation, KnownMessage, Room, Store, StoreError, User};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::digest::short_digest;

/// How often the lengths of the accept streams are read. Until the next time posts may overshoot the bound.
const BACKLOG_EVERY: Duration = Duration::from_millis(250);

/// How long Redis remembers what was posted under an idempotency key. SQL does for ever, as soon as the message is
/// stored. Only while no worker runs for longer than this could a key that is used for a second, different message go
/// unnoticed; the message is then answered with 204 and the first one stands.
const KEY_REMEMBERED_S: u64 = 600;

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The worker is too far behind: nothing more is taken until it has caught up.
    #[error("the accept log is full")]
    Backlog,
    /// The same key was used for another message.
    #[error("the idempotency key was used for another message")]
    KeyReused,
    /// Redis refused the message or was not reached: it is not accepted.
    #[error("Redis did not take the message: {0}")]
    Refused(RedisError),
    /// The message was sent to Redis and no answer came: it may be accepted or not.
    #[error("Redis did not say whether it took the message: {0}")]
    Unknown(RedisError),
    /// Storage failed before anything was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The way into the accept log.
pub struct Acceptor {
    connection: Link,
    store: Store,
    installation: Installation,
    full: Arc<[AtomicBool]>,
}

impl Acceptor {
    /// An acceptor that sends everything through `connection`.
    #[must_use]
    pub fn new(connection: Link, store: Store, installation: Installation) -> Self {
        let full = (0..installation.partitions).map(|_| AtomicBool::new(false)).collect();
        Self {
            connection,
            store,
            installation,
            full,
        }
    }

    /// Appends a message of `sender` to `room` and returns its id. Repeated with the same `key` it is the same message.
    pub async fn accept(
        &self,
        sender: &User,
        room: &Room,
        text: MessageText,
        key: Option<&IdempotencyKey>,
        now: Timestamp,
    ) -> Result<MessageId, AcceptError> {
        let partition = self.installation.partition_of(room.id);
        if self.full[usize::from(partition.0)].load(Ordering::Relaxed) {
            return Err(AcceptError::Backlog);
        }
        let message = Accepted {
            id: key.map_or_else(MessageId::fresh, |key| MessageId::keyed(sender.id, key)),
            room: room.id,
            sender: sender.id,
            username: sender.username.clone(),
            text,
            created_on: now,
            reply_to: None,
        };
        if key.is_some() && self.is_stored(&message).await? {
            return Ok(message.id);
        }
        self.append(partition, &message).await?;
        Ok(message.id)
    }

    /// True if the very same message is in SQL already; an error if the key stands for another one.
    ///
    /// Redis knows what was posted under the key and may not be stored yet, SQL what was posted long ago. The mark in
    /// Redis is set before SQL is asked, so that of two requests at the same time the second one sees the first.
    async fn is_stored(&self, message: &Accepted) -> Result<bool, AcceptError> {
        let ours = fingerprint(message.room, message.text.as_str());
        let options = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .get(true)
            .with_expiration(SetExpiry::EX(KEY_REMEMBERED_S));
        let marked: RedisResult<Option<String>> =
            self.connection.clone().set_options(format!("posted:{}", message.id), &ours, options).await;
        if marked.map_err(AcceptError::Refused)?.is_some_and(|theirs| theirs != ours) {
            return Err(AcceptError::KeyReused);
        }
        match self.store.known_message(message.id).await? {
            None => Ok(false),
            Some(KnownMessage { room, text }) if room == message.room && text == message.text.as_str() => Ok(true),
            Some(_) => Err(AcceptError::KeyReused),
        }
    }

    async fn append(&self, partition: Partition, message: &Accepted) -> Result<(), AcceptError> {
        let appended: RedisResult<String> =
            self.connection.clone().xadd(accept_stream(partition), "*", &encode_entry(message)).await;
        appended.map(drop).map_err(|error| {
            if is_refusal(&error) {
                AcceptError::Refused(error)
            } else {
                AcceptError::Unknown(error)
            }
        })
    }

    /// Keeps watch over the lengths of the accept streams until `stop` is cancelled: one that holds `bound` entries or
    /// more takes no posts until it is shorter again.
    pub fn watch_backlog(&self, bound: u32, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let (mut connection, full) = (self.connection.clone(), Arc::clone(&self.full));
        let mut lengths = redis::pipe();
        for partition in 0..self.installation.partitions {
            lengths.xlen(accept_stream(Partition(partition)));
        }
        async move {
            while !stop.is_cancelled() {
                let answer: RedisResult<Vec<u64>> = lengths.query_async(&mut connection).await;
                // While Redis is away nothing is accepted anyway.
                for (place, length) in answer.unwrap_or_default().into_iter().enumerate() {
                    let is_full = length >= u64::from(bound);
                    if full[place].swap(is_full, Ordering::Relaxed) != is_full {
                        warn!(partition = place, backlog = length, "accept log of partition {place} full: {is_full}");
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(BACKLOG_EVERY) => {}
                }
            }
        }
    }
}

/// Tells two messages apart that were posted under the same key.
fn fingerprint(room: RoomId, text: &str) -> String {
    short_digest(&[&room.0.to_be_bytes(), text.as_bytes()])
}
