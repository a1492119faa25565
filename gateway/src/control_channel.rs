//! Control channel: broadcasts events to all gateways and waits for their acknowledgements.
//!
//! What an answer says has ended must have ended at every gateway. Each gateway that receives the event applies it and then
//! acknowledges; Redis returns how many receive it. The answer waits until all have acknowledged, but no longer than any gateway
//! trusts its caches (`TRUSTED_FOR`): one that is paused or cut off asks SQL before it uses them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool_redis::PoolError;
use parking_lot::Mutex;
use redis::{AsyncCommands as _, RedisResult};
use shared::bus::{Acknowledgement, ControlEvent, ControlMessage, Pool, RedisClient, ReplyTo};
use shared::domain::GatewayId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::freshness::TRUSTED_FOR;

/// Events that are published at once without waiting for acknowledgements. Further ones are left out.
const UNACKNOWLEDGED_AT_ONCE: usize = 256;

/// Why an event could not be broadcast.
#[derive(Debug, thiserror::Error)]
enum BroadcastError {
    /// No connection to Redis.
    #[error("no connection to Redis: {0}")]
    Pool(#[from] PoolError),
    /// Redis did not accept the event.
    #[error("Redis did not take the event: {0}")]
    Redis(#[from] redis::RedisError),
    /// Redis has not answered in time.
    #[error("Redis has not answered within {} ms", TRUSTED_FOR.as_millis())]
    Late,
}

/// Broadcasts events to all gateways.
pub struct ControlChannel {
    own_id: GatewayId,
    /// The channel on which the other gateways acknowledge to this one.
    channel: String,
    pool: Pool,
    redis: RedisClient,
    next_number: AtomicU64,
    /// The gateways that have acknowledged each pending broadcast, by its number. The changes under way bound it.
    pending: Mutex<HashMap<u64, Acknowledgers>>,
    unacknowledged: Arc<Semaphore>,
}

/// The gateways that have applied an event.
type Acknowledgers = watch::Sender<HashSet<GatewayId>>;

impl ControlChannel {
    /// Events go through `pool`, acknowledgements through `redis`.
    #[must_use]
    pub fn new(pool: Pool, redis: RedisClient) -> Self {
        let own_id = GatewayId(Uuid::new_v4());
        Self {
            own_id,
            channel: redis.key_space().acknowledgements_channel(own_id),
            pool,
            redis,
            next_number: AtomicU64::new(0),
            pending: Mutex::default(),
            unacknowledged: Arc::new(Semaphore::new(UNACKNOWLEDGED_AT_ONCE)),
        }
    }

    /// The channel on which other gateways acknowledge.
    #[must_use]
    pub fn acknowledgements_channel(&self) -> &str {
        &self.channel
    }

    /// Broadcasts `event` to all gateways, this one included. Returns when they have applied it, or no longer trust a cache that is
    /// older than it.
    pub async fn broadcast(&self, event: ControlEvent) {
        let began = Instant::now();
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let pending = PendingBroadcast::new(self, number);
        let reply_to = Some(ReplyTo {
            gateway: self.own_id,
            number,
        });
        let message = ControlMessage { event, reply_to };
        let published = timeout_at(began + TRUSTED_FOR, self.publish(&message.encode(self.pool.key_space()))).await;
        match published.unwrap_or(Err(BroadcastError::Late)) {
            Ok(receivers) => pending.wait_for(receivers, Instant::now() + TRUSTED_FOR).await,
            Err(error) => {
                warn!(error = %error, "the other gateways were not told of a change: {error}");
                sleep_until(began + TRUSTED_FOR).await;
            }
        }
    }

    /// The permission to publish one event without waiting for acknowledgements, unless many are under way.
    #[must_use]
    pub fn acquire_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.unacknowledged).try_acquire_owned().ok()
    }

    /// Publishes `event`, which nobody acknowledges. If that fails, the other gateways find out by themselves.
    pub async fn publish_only(&self, _permit: OwnedSemaphorePermit, event: ControlEvent) {
        let message = ControlMessage { event, reply_to: None }.encode(self.pool.key_space());
        let published = timeout_at(Instant::now() + TRUSTED_FOR, self.publish(&message)).await;
        if let Err(error) = published.unwrap_or(Err(BroadcastError::Late)) {
            debug!(error = %error, "an event was not published: {error}");
        }
    }

    async fn publish(&self, raw: &[u8]) -> Result<usize, BroadcastError> {
        let mut connection = self.pool.get().await?;
        Ok(connection.publish(self.pool.key_space().control_channel(), raw).await?)
    }

    /// Acknowledges to `to` that this gateway has applied the event.
    pub fn acknowledge(&self, to: ReplyTo) {
        let acknowledgement = Acknowledgement {
            by: self.own_id,
            to: to.gateway,
            number: to.number,
        };
        if to.gateway == self.own_id {
            return self.on_acknowledgement(acknowledgement);
        }
        let mut redis = self.redis.clone();
        tokio::spawn(async move {
            let keys = Arc::clone(redis.key_space());
            let (channel, message) = (keys.acknowledgements_channel(to.gateway), acknowledgement.encode(&keys));
            let published: RedisResult<()> = redis.publish(channel, message).await;
            if let Err(error) = published {
                // The other gateway waits for `TRUSTED_FOR` then.
                debug!(error = %error, "a change was not acknowledged: {error}");
            }
        });
    }

    /// Handles a message of [`Self::acknowledgements_channel`].
    pub fn on_acknowledgements(&self, payload: &[u8]) {
        match Acknowledgement::decode(payload, self.pool.key_space()) {
            Ok(acknowledgement) => self.on_acknowledgement(acknowledgement),
            Err(error) => error.report("acknowledgement"),
        }
    }

    fn on_acknowledgement(&self, Acknowledgement { by, to, number }: Acknowledgement) {
        if to != self.own_id {
            return;
        }
        if let Some(acknowledgers) = self.pending.lock().get(&number) {
            acknowledgers.send_modify(|gateways| {
                gateways.insert(by);
            });
        }
    }
}

/// A broadcast that not all gateways have acknowledged yet.
struct PendingBroadcast<'a> {
    control: &'a ControlChannel,
    number: u64,
    gateways: watch::Receiver<HashSet<GatewayId>>,
}

impl<'a> PendingBroadcast<'a> {
    fn new(control: &'a ControlChannel, number: u64) -> Self {
        let (acknowledgers, gateways) = watch::channel(HashSet::new());
        control.pending.lock().insert(number, acknowledgers);
        Self {
            control,
            number,
            gateways,
        }
    }

    /// Waits until `receivers` gateways have acknowledged, or until `deadline`.
    async fn wait_for(mut self, receivers: usize, deadline: Instant) {
        let all = self.gateways.wait_for(|gateways| gateways.len() >= receivers.max(1));
        let in_time = timeout_at(deadline, all).await.is_ok();
        if !in_time {
            debug!("not all of {receivers} gateways said in time that they know of a change");
        }
    }
}

impl Drop for PendingBroadcast<'_> {
    fn drop(&mut self) {
        self.control.pending.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::{KeySpace, MacKey, RedisConnector};
    use shared::settings::RedisArgs;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Numbers begin anew with each process, so an acknowledgement to another gateway may carry the same one.
    #[tokio::test]
    async fn an_acknowledgement_counts_for_its_addressee_only() {
        let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, MacKey::fresh());
        let redis =
            RedisConnector::open(&RedisArgs::at("redis://127.0.0.1:1"), keys, CancellationToken::new()).unwrap();
        let control = ControlChannel::new(redis.pool(), redis.client());
        let pending = PendingBroadcast::new(&control, 7);
        let addressed_to = |to| Acknowledgement {
            by: GatewayId(Uuid::new_v4()),
            to,
            number: 7,
        };
        for to in [GatewayId(Uuid::new_v4()), control.own_id] {
            control.on_acknowledgements(&addressed_to(to).encode(control.pool.key_space()));
            assert_eq!(pending.gateways.borrow().len(), usize::from(to == control.own_id));
        }
    }
}
