//! Hints for the worker: the outbox has rows of a room, because a gateway has changed its members or the room itself.

use std::sync::Arc;

use redis::{AsyncCommands as _, RedisResult};
use shared::bus::{RedisClient, encode_outbox_hint};
use shared::domain::{Partition, RoomId};
use shared::storage::{Installation, Store};
use tokio::sync::Semaphore;
use tracing::debug;

/// Hints under way at once. Further ones are left out: the worker looks at the outbox every second.
const AT_ONCE: usize = 256;

/// Appends hints to the accept log. Clones share the bound.
#[derive(Clone)]
pub struct OutboxHints {
    store: Store,
    redis: RedisClient,
    installation: Installation,
    under_way: Arc<Semaphore>,
    /// Whether the accept log takes no more of a partition now.
    is_full: Arc<dyn Fn(Partition) -> bool + Send + Sync>,
}

impl OutboxHints {
    /// Hints about the outbox of `store` that are sent through `redis`, unless the accept log of the partition `is_full`.
    #[must_use]
    pub fn new(
        store: Store,
        redis: RedisClient,
        installation: Installation,
        is_full: impl Fn(Partition) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            redis,
            installation,
            under_way: Arc::new(Semaphore::new(AT_ONCE)),
            is_full: Arc::new(is_full),
        }
    }

    /// Sends a hint about `room` in the background. The change is in SQL, and its caller need not wait for Redis.
    ///
    /// The end of the outbox is read before the hint is sent, so that the hint stands behind what was accepted before the rows
    /// that it names.
    pub fn send(&self, room: RoomId) {
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            return;
        };
        let partition = self.installation.partition_of(room);
        if (self.is_full)(partition) {
            return;
        }
        let (store, mut redis) = (self.store.clone(), self.redis.clone());
        tokio::spawn(async move {
            let _permit = permit;
            // The worker has taken the rows already, or finds them by itself.
            let Ok(Some(hint)) = store.last_in_outbox(room).await else {
                return;
            };
            let keys = Arc::clone(redis.key_space());
            let fields = encode_outbox_hint(hint, &keys);
            let sent: RedisResult<String> = redis.xadd(keys.accept_stream(partition), "*", &fields).await;
            if let Err(error) = sent {
                debug!(error = %error, "no hint about the outbox was sent: {error}");
            }
        });
    }
}
