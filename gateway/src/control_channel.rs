//! Telling the other gateways, and knowing that they know.
//!
//! What an answer says has ended must have ended at every gateway. Each one that hears of it acts and then says so; Redis
//! tells how many hear it. Until all have said so the answer waits, but no longer than any gateway trusts what it remembers
//! (`TRUSTED_FOR`): one that is paused or cut off asks SQL before it uses any of it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_redis::PoolError;
use redis::{AsyncCommands as _, RedisResult};
use shared::bus::{Acknowledgement, ControlEvent, ControlMessage, Pool, RedisClient, ReplyTo};
use shared::domain::GatewayId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::freshness::TRUSTED_FOR;

/// Why the other gateways could not be told.
#[derive(Debug, thiserror::Error)]
enum BroadcastError {
    /// No connection to Redis.
    #[error("no connection to Redis: {0}")]
    Pool(#[from] PoolError),
    /// Redis did not take the event.
    #[error("Redis did not take the event: {0}")]
    Redis(#[from] redis::RedisError),
    /// Redis has not answered in time.
    #[error("Redis has not answered within {} ms", TRUSTED_FOR.as_millis())]
    Late,
}

/// Tells the gateways what has ended.
pub struct ControlChannel {
    me: GatewayId,
    /// On which other gateways acknowledge.
    channel: String,
    pool: Pool,
    redis: RedisClient,
    last: AtomicU64,
    /// Who has acted on what was told, by its number. As many as there are changes under way.
    pending: Mutex<HashMap<u64, Acknowledgers>>,
}

/// Those who have acted on something.
type Acknowledgers = watch::Sender<HashSet<GatewayId>>;

impl ControlChannel {
    /// Events go through `pool`, acknowledgements through `redis`.
    #[must_use]
    pub fn new(pool: Pool, redis: RedisClient) -> Self {
        let me = GatewayId(Uuid::new_v4());
        Self {
            me,
            channel: redis.key_space().acknowledgements_channel(me),
            pool,
            redis,
            last: AtomicU64::new(0),
            pending: Mutex::default(),
        }
    }

    /// The channel on which other gateways acknowledge.
    #[must_use]
    pub fn acknowledgements_channel(&self) -> &str {
        &self.channel
    }

    /// Tells all gateways, this one included, and returns when they have acted on it, or trust nothing any more that is older.
    pub async fn broadcast(&self, event: ControlEvent) {
        let began = Instant::now();
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let pending = PendingBroadcast::new(self, number);
        let reply_to = Some(ReplyTo {
            gateway: self.me,
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

    async fn publish(&self, raw: &[u8]) -> Result<usize, BroadcastError> {
        let mut connection = self.pool.get().await?;
        Ok(connection.publish(self.pool.key_space().control_channel(), raw).await?)
    }

    /// Tells `to` that this gateway has acted.
    pub fn acknowledge(&self, to: ReplyTo) {
        let acknowledgement = Acknowledgement {
            by: self.me,
            to: to.gateway,
            number: to.number,
        };
        if to.gateway == self.me {
            return self.on_acknowledgement(acknowledgement);
        }
        let mut redis = self.redis.clone();
        tokio::spawn(async move {
            let keys = Arc::clone(redis.key_space());
            let (channel, message) = (keys.acknowledgements_channel(to.gateway), acknowledgement.encode(&keys));
            let told: RedisResult<()> = redis.publish(channel, message).await;
            if let Err(error) = told {
                // The other one waits its time then.
                debug!(error = %error, "a change was not acknowledged: {error}");
            }
        });
    }

    /// Takes what came on [`Self::acknowledgements_channel`].
    pub fn on_acknowledgements(&self, payload: &[u8]) {
        match Acknowledgement::decode(payload, self.pool.key_space()) {
            Ok(acknowledgement) => self.on_acknowledgement(acknowledgement),
            Err(error) => error.report("acknowledgement"),
        }
    }

    fn on_acknowledgement(&self, Acknowledgement { by, to, number }: Acknowledgement) {
        if to != self.me {
            return;
        }
        if let Some(acknowledgers) = self.pending().get(&number) {
            acknowledgers.send_modify(|gateways| {
                gateways.insert(by);
            });
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Acknowledgers>> {
        // A panic cannot leave it half changed.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that was told and is not known to all yet.
struct PendingBroadcast<'a> {
    control: &'a ControlChannel,
    number: u64,
    gateways: watch::Receiver<HashSet<GatewayId>>,
}

impl<'a> PendingBroadcast<'a> {
    fn new(control: &'a ControlChannel, number: u64) -> Self {
        let (acknowledgers, gateways) = watch::channel(HashSet::new());
        control.pending().insert(number, acknowledgers);
        Self {
            control,
            number,
            gateways,
        }
    }

    /// Waits until so many gateways have acted, or until `deadline`.
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
        self.control.pending().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::{KeySpace, MacKey, RedisConnector};
    use shared::settings::RedisArgs;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Numbers begin anew with each process: what was said to another one is no answer.
    #[tokio::test]
    async fn an_acknowledgement_counts_for_whom_it_is_meant() {
        let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, MacKey::fresh());
        let redis =
            RedisConnector::open(&RedisArgs::at("redis://127.0.0.1:1"), keys, CancellationToken::new()).unwrap();
        let control = ControlChannel::new(redis.pool(), redis.client());
        let pending = PendingBroadcast::new(&control, 7);
        let said_to = |to| Acknowledgement {
            by: GatewayId(Uuid::new_v4()),
            to,
            number: 7,
        };
        for to in [GatewayId(Uuid::new_v4()), control.me] {
            control.on_acknowledgements(&said_to(to).encode(control.pool.key_space()));
            assert_eq!(pending.gateways.borrow().len(), usize::from(to == control.me));
        }
    }
}
