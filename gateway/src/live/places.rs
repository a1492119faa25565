//! How many streams a user or an address has open, counted in Redis so that it holds across all gateways.
//!
//! An open stream is a member of a sorted set whose score is the time at which it counts no longer. The gateway that
//! serves the stream puts that time off while the stream lives; a gateway that was killed leaves members that expire.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{RedisError, RedisResult, Script, ScriptInvocation};
use shared::bus::Link;
use shared::domain::UserId;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

/// How long a stream counts after the gateway that served it has vanished.
const COUNTS_FOR: Duration = Duration::from_mins(1);

/// How often a living stream is put off: two failures in a row do no harm.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// Places renewed or given back by one round trip.
const AT_ONCE: usize = 500;

/// KEYS: the set. ARGV: member, time to count in ms, how many may be open (0: any number). Returns 1 if it may be.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME')
         local now, limit = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[3])
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
         if limit > 0 and redis.call('ZCARD', KEYS[1]) >= limit then return 0 end
         redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
         redis.call('PEXPIRE', KEYS[1], ARGV[2])
         return 1",
    )
});

/// Why a stream may not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NoPlace {
    /// As many are open as may be.
    #[error("too many streams")]
    TooMany,
    /// They cannot be counted.
    #[error("cannot count streams: {0}")]
    Redis(#[from] RedisError),
}

/// Hands out places and keeps those that were taken. Clones share the count.
#[derive(Clone)]
pub struct Places {
    connection: Link,
    per_user: u32,
    per_address: u32,
    taken: Arc<Taken>,
}

/// The places of this process. Both lists are bounded by the number of connections.
#[derive(Default)]
struct Taken {
    /// By stream, whose it is.
    open: Mutex<HashMap<Uuid, Whose>>,
    /// Ended, and still counted.
    ended: Mutex<Vec<(Uuid, Whose)>>,
    has_ended: Notify,
}

/// Whom a stream is counted for. There are many of them: the keys are made when they are needed.
#[derive(Debug, Clone, Copy)]
struct Whose {
    user: UserId,
    address: IpAddr,
}

/// A place for one stream, given back when dropped.
pub struct Place {
    id: Uuid,
    taken: Arc<Taken>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(whose) = lock(&self.taken.open).remove(&self.id) {
            lock(&self.taken.ended).push((self.id, whose));
            self.taken.has_ended.notify_one();
        }
    }
}

impl Places {
    /// Places for `per_user` and `per_address` streams (0: any number), counted through `connection`.
    #[must_use]
    pub fn new(connection: Link, per_user: u32, per_address: u32) -> Self {
        Self {
            connection,
            per_user,
            per_address,
            taken: Arc::default(),
        }
    }

    /// Takes a place for a stream of `user` from `address`.
    pub async fn take(&self, user: UserId, address: IpAddr) -> Result<Place, NoPlace> {
        let whose = Whose { user, address };
        let place = Place {
            id: Uuid::new_v4(),
            taken: Arc::clone(&self.taken),
        };
        for (key, limit) in self.counted(whose) {
            // Noted before it is counted, so that it is given back whatever happens in between.
            lock(&self.taken.open).insert(place.id, whose);
            let taken: RedisResult<bool> =
                count(&key, place.id, limit).invoke_async(&mut self.connection.clone()).await;
            match taken {
                Ok(true) => {}
                Ok(false) => return Err(NoPlace::TooMany),
                // Reading needs no Redis. It is counted with the next renewal.
                Err(error) => debug!(error = %error, "a stream is not counted yet: {error}"),
            }
        }
        Ok(place)
    }

    /// The sets a stream is counted in, and how many may be in each.
    fn counted(&self, whose: Whose) -> impl Iterator<Item = (String, u32)> + use<> {
        let keys = self.connection.keys();
        let user = (self.per_user > 0).then(|| (keys.streams_of_user(whose.user), self.per_user));
        let address = (self.per_address > 0).then(|| (keys.streams_of_address(whose.address), self.per_address));
        user.into_iter().chain(address)
    }

    /// Puts off the places of open streams and gives back those of ended ones, until `stop` is cancelled.
    pub async fn keep(mut self, stop: CancellationToken) {
        let mut renewal = interval(RENEW_EVERY);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.taken.has_ended.notified() => self.give_back().await,
                _ = renewal.tick() => self.renew().await,
            }
        }
        // The streams end now: those that did so already are given back, the others expire.
        self.give_back().await;
    }

    async fn give_back(&mut self) {
        let ended = std::mem::take(&mut *lock(&self.taken.ended));
        for some in ended.chunks(AT_ONCE) {
            let mut pipeline = redis::pipe();
            for (id, whose) in some {
                for (key, _) in self.counted(*whose) {
                    pipeline.zrem(key, id.to_string()).ignore();
                }
            }
            // What could not be given back is no longer renewed and expires.
            let _: RedisResult<()> = pipeline.query_async(&mut self.connection).await;
        }
    }

    async fn renew(&mut self) {
        let open: Vec<(Uuid, Whose)> = lock(&self.taken.open).iter().map(|(id, whose)| (*id, *whose)).collect();
        for some in open.chunks(AT_ONCE) {
            let mut pipeline = redis::pipe();
            pipeline.load_script(&TAKE).ignore();
            for (id, whose) in some {
                for (key, _) in self.counted(*whose) {
                    pipeline.invoke_script(&count(&key, *id, 0)).ignore();
                }
            }
            let renewed: RedisResult<()> = pipeline.query_async(&mut self.connection).await;
            if let Err(error) = renewed {
                warn!(error = %error, "cannot renew the places of open streams: {error}");
                return;
            }
        }
    }
}

fn count(key: &str, id: Uuid, limit: u32) -> ScriptInvocation<'static> {
    let millis = u64::try_from(COUNTS_FOR.as_millis()).unwrap_or(u64::MAX);
    let mut invocation = TAKE.prepare_invoke();
    invocation.key(key).arg(id.to_string()).arg(millis).arg(limit);
    invocation
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is guarded here can be left half changed by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
