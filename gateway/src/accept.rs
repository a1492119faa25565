//! Message acceptance: appends messages to the accept log in Redis, after which they are never lost.
//!
//! A message is accepted when it is in its partition's stream in Redis, which is on disk by then. All requests share
//! one [`RedisClient`], which makes one write of what many of them append at the same time. [`Ack`] decides whether a post is
//! answered then or waits for the commit.
//!
//! Two bounds limit what piles up here: `POSTS_AT_ONCE` the posts under way, `backlog` the messages that no worker has stored
//! yet.

mod backlog;
mod commit_waiters;
mod recent_keys;
mod stored_lookup;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{AsyncCommands as _, RedisError, RedisResult};
use shared::bus::{RedisClient, encode_change, encode_message, is_refusal};
use shared::domain::{
    Accepted, AcceptedChange, ChangeRequest, GatewayId, IdempotencyKey, MessageId, MessageText, Outcome, Partition,
    Refusal, Seq, Timestamp, UserId,
};
use shared::storage::{Installation, KnownMessage, Room, Store, StoreError, User};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Ack;
pub use backlog::AcceptLog;
use backlog::Backlog;
use commit_waiters::CommitWaiters;
use recent_keys::{KeyUse, RecentKeys};
use stored_lookup::StoredLookup;

/// Posts under way at once, from the first query of SQL or Redis to the answer. One more is refused as busy.
///
/// It bounds what is held while Redis or a worker hangs: about 50 KiB for each of the longest messages, 100 MiB
/// together. At 5 ms a post it lets 400,000 a second through.
const POSTS_AT_ONCE: usize = 2_048;

/// The pause between two look-ups of the second of two messages that were accepted under one key.
const LOOKUP_PAUSE: Duration = Duration::from_millis(100);

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Too many posts are under way.
    #[error("too many posts are under way")]
    Busy,
    /// The worker is too far behind: no post is accepted until it has caught up.
    #[error("the accept log is full")]
    Backlog,
    /// The same key was used for another message.
    #[error("the idempotency key was used for another message")]
    KeyReused,
    /// The same message was recorded, in an earlier room of this name.
    #[error("the message is in an earlier room of this name, which was deleted")]
    RoomDeleted,
    /// Redis refused the message or was not reached: it is not accepted.
    #[error("Redis did not take the message: {0}")]
    Refused(RedisError),
    /// The message was sent to Redis and no answer came: it may be accepted or not.
    #[error("Redis did not say whether it took the message: {0}")]
    Unknown(RedisError),
    /// The worker refused it when it came to be stored.
    #[error("it was refused when it came to be stored")]
    Rejected(Refusal),
    /// Storage failed before anything was sent.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

/// A message that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its identity.
    pub id: MessageId,
    /// Its position in the room, if it is known to be stored.
    pub seq: Option<Seq>,
}

/// Permits one post to be under way, until it is dropped.
pub struct PostPermit(#[expect(dead_code, reason = "held for what its drop gives back")] OwnedSemaphorePermit);

/// Appends messages to the accept log.
pub struct Acceptor {
    redis: RedisClient,
    store: Store,
    stored: StoredLookup,
    recent: RecentKeys,
    installation: Installation,
    posts: Arc<Semaphore>,
    backlog: Backlog,
    waiters: CommitWaiters,
    /// Where workers send receipts.
    gateway: GatewayId,
    ack: Ack,
}

/// A message that somebody posts.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Its text.
    pub text: MessageText,
    /// The message that it replies to.
    pub in_reply_to: Option<MessageId>,
    /// The users that it mentions.
    pub mentions: Vec<UserId>,
    /// Identifies the request among all of the sender's.
    pub key: Option<IdempotencyKey>,
}

impl Acceptor {
    /// An acceptor that sends everything through `redis` and acknowledges as `ack` says.
    #[must_use]
    pub fn new(redis: RedisClient, store: Store, installation: Installation, ack: Ack) -> Self {
        Self {
            redis,
            stored: StoredLookup::new(store.clone()),
            recent: RecentKeys::new(),
            store,
            posts: Arc::new(Semaphore::new(POSTS_AT_ONCE)),
            backlog: Backlog::new(installation.partitions),
            waiters: CommitWaiters::default(),
            gateway: GatewayId(Uuid::new_v4()),
            ack,
            installation,
        }
    }

    /// A permit for one post, unless too many are under way.
    pub fn acquire_permit(&self) -> Result<PostPermit, AcceptError> {
        Arc::clone(&self.posts).try_acquire_owned().map(PostPermit).map_err(|_| AcceptError::Busy)
    }

    /// Whether a worker lives, asked over the client by which messages are appended: an error if it cannot be used.
    pub async fn sees_workers(&self) -> RedisResult<bool> {
        self.redis.clone().exists(self.redis.key_space().workers()).await
    }

    /// What is known of the accept log, without a query.
    #[must_use]
    pub fn accept_log(&self) -> AcceptLog {
        self.backlog.known()
    }

    /// Appends a message of `sender` to `room`, and waits for its commit if this installation acknowledges only then, or if
    /// the commit decides about it: whether the message that it replies to is there. Repeated with the same key it is the same
    /// message.
    ///
    /// The wait has no timeout of its own: the caller bounds it.
    pub async fn accept(
        &self,
        _permit: &PostPermit,
        sender: &User,
        room: &Room,
        new: NewMessage,
        now: Timestamp,
    ) -> Result<Acknowledged, AcceptError> {
        let partition = self.free_partition(room)?;
        let (key, ordered_from) = (new.key, self.installation.ordered_ids_from);
        let waits = self.ack == Ack::Stored || new.in_reply_to.is_some();
        let message = Accepted {
            id: key.as_ref().map_or_else(MessageId::fresh, |key| MessageId::keyed(sender.id, key, ordered_from)),
            room: room.id,
            sender: sender.id,
            text: new.text,
            in_reply_to: new.in_reply_to,
            mentions: new.mentions,
            created_on: now,
            reply_to: waits.then_some(self.gateway),
        };
        let id = message.id;
        let waiter = waits.then(|| self.waiters.wait_for(id));
        if key.is_none() {
            self.append(partition, &message).await?;
        } else if let Some(seq) = self.append_unless_stored(partition, &message, room).await? {
            return Ok(Acknowledged { id, seq: Some(seq) });
        }
        let Some(waiter) = waiter else {
            return Ok(Acknowledged { id, seq: None });
        };
        match waiter.outcome().await {
            Outcome::Refused(refusal) => Err(AcceptError::Rejected(refusal)),
            Outcome::Stored(seq) if key.is_none() => Ok(Acknowledged { id, seq: Some(seq) }),
            Outcome::Stored(_) => self.stored_as(&message).await,
        }
    }

    /// Appends a change of `sender` to the message `target` of `room`, and waits until it is decided. Repeated with the same
    /// `key` it is the same change, however late a try arrives.
    ///
    /// The wait has no timeout of its own: the caller bounds it.
    pub async fn change(
        &self,
        _permit: &PostPermit,
        sender: &User,
        room: &Room,
        (target, request, key): (MessageId, ChangeRequest, Option<&IdempotencyKey>),
        now: Timestamp,
    ) -> Result<(), AcceptError> {
        let partition = self.free_partition(room)?;
        let change = AcceptedChange {
            id: key.map_or_else(MessageId::fresh, |key| MessageId::keyed_change(sender.id, target, key, &request)),
            room: room.id,
            sender: sender.id,
            created_on: now,
            receipt_to: Some(self.gateway),
            target,
            request,
        };
        let waiter = self.waiters.wait_for(change.id);
        let fields = encode_change(&change, self.redis.key_space());
        self.append_fields(partition, &fields).await?;
        match waiter.outcome().await {
            Outcome::Stored(_) => Ok(()),
            Outcome::Refused(refusal) => Err(AcceptError::Rejected(refusal)),
        }
    }

    /// Whether the worker is so far behind in `partition`, or Redis so full, that nothing is accepted.
    #[must_use]
    pub fn is_full(&self, partition: Partition) -> bool {
        self.backlog.is_full(partition)
    }

    /// The partition of `room`, if the worker is not too far behind there.
    fn free_partition(&self, room: &Room) -> Result<Partition, AcceptError> {
        let partition = self.installation.partition_of(room.id);
        if self.backlog.is_full(partition) {
            Err(AcceptError::Backlog)
        } else {
            Ok(partition)
        }
    }

    /// The id under which a keyed message is stored. Something is known to be stored under its own id, which may be another
    /// message of the same key, accepted at another gateway at the same moment. Waits until the message is stored.
    async fn stored_as(&self, message: &Accepted) -> Result<Acknowledged, AcceptError> {
        loop {
            for id in [message.id, message.id.derived_for(message.room, &message.text)] {
                let stored = self.stored.find(id).await?;
                let is_it =
                    |known: &KnownMessage| known.room == message.room && known.was_posted_with(message.text.as_str());
                if let Some(known) = stored.filter(is_it) {
                    let seq = Some(known.seq);
                    return Ok(Acknowledged { id, seq });
                }
            }
            tokio::time::sleep(LOOKUP_PAUSE).await;
        }
    }

    /// The channel on which this gateway receives receipts.
    #[must_use]
    pub fn receipts_channel(&self) -> String {
        self.redis.key_space().receipts_channel(self.gateway)
    }

    /// Resolves the posts that a message on that channel confirms.
    pub fn on_receipts(&self, payload: &[u8]) {
        self.waiters.on_receipts(payload, self.redis.key_space());
    }

    /// Looks up what posts wait for without a receipt, until `stop` is cancelled.
    pub fn look_up_overdue(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        self.waiters.clone().look_up_overdue(self.store.clone(), stop)
    }

    /// Watches the accept streams until `stop` is cancelled: a partition whose stream holds `bound` entries or more accepts no
    /// posts until it is shorter again.
    pub fn watch_backlog(&self, bound: u32, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        self.backlog.clone().watch(self.redis.clone(), bound, stop)
    }

    /// Appends a keyed message, unless the very same one is stored already: then returns its position. Fails if the key stands
    /// for another message.
    ///
    /// SQL knows what is stored, and this gateway what it has accepted lately and may not be stored yet.
    async fn append_unless_stored(
        &self,
        partition: Partition,
        message: &Accepted,
        room: &Room,
    ) -> Result<Option<Seq>, AcceptError> {
        match self.stored.find(message.id).await? {
            Some(known) if !known.was_posted_with(message.text.as_str()) => return Err(AcceptError::KeyReused),
            Some(known) if known.room == message.room => return Ok(Some(known.seq)),
            Some(known) if known.room_is_deleted && known.room_name == room.name => {
                return Err(AcceptError::RoomDeleted);
            }
            Some(_) => return Err(AcceptError::KeyReused),
            None => {}
        }
        let (id, used) = (message.id, KeyUse::of(message.room, &room.name, message.text.as_str()));
        let is_new = self.recent.reserve(id, used, Instant::now())?;
        let appended = self.append(partition, message).await;
        match &appended {
            Ok(()) => self.recent.confirm(id),
            Err(AcceptError::Refused(_)) if is_new => self.recent.forget(id),
            Err(_) => {}
        }
        appended.map(|()| None)
    }

    async fn append(&self, partition: Partition, message: &Accepted) -> Result<(), AcceptError> {
        self.append_fields(partition, &encode_message(message, self.redis.key_space())).await
    }

    async fn append_fields(
        &self,
        partition: Partition,
        fields: &[(&'static str, Cow<'_, str>)],
    ) -> Result<(), AcceptError> {
        let stream = self.redis.key_space().accept_stream(partition);
        let appended: RedisResult<String> = self.redis.clone().xadd(stream, "*", fields).await;
        appended.map(drop).map_err(classify)
    }
}

/// What an error of Redis means for the message that was sent.
fn classify(error: RedisError) -> AcceptError {
    if is_refusal(&error) {
        AcceptError::Refused(error)
    } else {
        AcceptError::Unknown(error)
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::RedisConnector;
    use shared::settings::RedisArgs;
    use shared::storage::Role;

    use super::*;

    #[tokio::test]
    async fn a_post_beyond_the_limit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("roomcast.db").display());
        let store = Store::open(&url, Role::Gateway).await.unwrap();
        let installation = store.migrate(4, 1).await.unwrap();
        // Nothing listens there: this test needs no Redis.
        let nowhere = RedisArgs::at("redis://127.0.0.1:1");
        let nowhere = RedisConnector::open(&nowhere, installation.key_space(), CancellationToken::new()).unwrap();
        let acceptor = Acceptor::new(nowhere.client(), store, installation, Ack::Logged);
        let mut admitted: Vec<_> = (0..POSTS_AT_ONCE).map(|_| acceptor.acquire_permit().unwrap()).collect();
        assert!(matches!(acceptor.acquire_permit(), Err(AcceptError::Busy)));
        admitted.pop();
        assert!(acceptor.acquire_permit().is_ok());
    }
}
