//! Quota of streams: how many a user or an address has open, counted in Redis so that it holds across all gateways.
//!
//! A stream holds a lease: a member of a sorted set whose score is the time at which it expires. The gateway that serves the
//! stream renews the lease while the stream lives and releases it when the stream ends, not before, also while the gateway
//! stops. A gateway that was killed leaves leases behind. They expire, and whoever needs one of them before that finds their
//! gateway gone and removes them.
//!
//! A client that names itself has one stream of a room: its newer one takes the lease of the older one, which is ended
//! wherever it is served.

mod lease_table;
mod scripts;
mod upkeep;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use redis::{AsyncCommands as _, RedisResult};
use shared::bus::RedisClient;
use shared::domain::{StreamKey, UserId};
use tracing::debug;

use self::lease_table::{LeaseHolder, LeaseTable};
use self::scripts::LeaseKeys;
use super::bye_reason::ByeReason;
use super::client_name::ClientName;
use super::peer_liveness::{self, TcpEndpoints};
use super::stream_registry::RegisteredStream;
use crate::digest::short_digest;

/// How long a lease is valid after the gateway that held it has vanished.
const LEASE_TTL: Duration = Duration::from_mins(1);

/// How often a gateway renews its liveness key, and how long the key is valid. The leases of a gateway without one are
/// removed by whoever needs them; should the gateway live after all, it counts them again when it renews them.
const LIVENESS_EVERY: Duration = Duration::from_secs(1);
const LIVENESS_TTL: Duration = Duration::from_secs(4);

/// How often the gateways are asked for the silent streams of one user.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Users for whom it is remembered that the gateways were asked. With more, they are asked more often for some.
const ASKED: u64 = 10_000;

/// Why a stream may not be opened.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// As many streams are open as the limit allows.
    #[error("too many streams")]
    TooMany,
}

/// What a lease is asked for with, beside the registered stream.
pub struct LeaseRequest {
    /// The name that the client gave itself, if it did.
    pub client: Option<ClientName>,
    /// The address that the stream is counted for.
    pub address: IpAddr,
    /// The two ends of its connection, if they are known.
    pub endpoints: Option<TcpEndpoints>,
}

/// A stream's lease, released when dropped.
pub struct StreamLease {
    stream: StreamKey,
    leases: Arc<LeaseTable>,
}

#[cfg(test)]
impl StreamLease {
    /// One that is counted nowhere.
    pub(super) fn for_tests() -> Self {
        let leases: Arc<LeaseTable> = Arc::default();
        let stream = StreamKey {
            gateway: 0,
            number: leases.next_number(),
        };
        Self { stream, leases }
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        self.leases.end(self.stream);
    }
}

/// Grants leases and keeps them. Clones share the count.
#[derive(Clone)]
pub struct StreamQuota {
    redis: RedisClient,
    per_user: u32,
    per_address: u32,
    /// This process among the gateways; a part of each lease's name.
    gateway: u64,
    leases: Arc<LeaseTable>,
    /// Whether this gateway has set its liveness key: the leases of one without count as abandoned.
    is_announced: Arc<AtomicBool>,
    /// The users for whose silent streams the gateways were asked lately.
    asked: Cache<UserId, ()>,
}

impl StreamQuota {
    /// Leases for `per_user` and `per_address` streams (0: any number), counted through `redis`.
    #[must_use]
    pub fn new(redis: RedisClient, per_user: u32, per_address: u32) -> Self {
        Self {
            redis,
            per_user,
            per_address,
            gateway: rand::random(),
            leases: Arc::default(),
            is_announced: Arc::default(),
            asked: Cache::builder().max_capacity(ASKED).time_to_live(ASK_EVERY).build(),
        }
    }

    /// Acquires a lease for `registered`, and returns the older stream of the same client whose lease it took, too.
    pub async fn acquire(
        &self,
        request: &LeaseRequest,
        registered: &Arc<RegisteredStream>,
    ) -> Result<(StreamLease, Option<StreamKey>), QuotaError> {
        let stream = StreamKey {
            gateway: self.gateway,
            number: self.leases.next_number(),
        };
        let client = request.client.as_ref().map(|client| {
            let (session, followed) = (registered.session.0.as_bytes(), registered.followed.number().to_be_bytes());
            short_digest(&[session, &followed, client.as_bytes()])
        });
        let holder = Arc::new(LeaseHolder {
            user: registered.user,
            address: request.address,
            client,
            endpoints: request.endpoints,
            registered: Arc::clone(registered),
        });
        if !self.is_announced.load(Ordering::Acquire) {
            // Without Redis nothing is counted, see below.
            let _ = self.announce().await;
        }
        let counted: Vec<(LeaseKeys, u32)> = self.counted(&holder).collect();
        // In the table before it is counted, so that it is released whatever happens in between.
        self.leases.insert(stream, holder);
        let lease = StreamLease {
            stream,
            leases: Arc::clone(&self.leases),
        };
        let mut replaced = None;
        for (keys, limit) in counted {
            match self.try_acquire(&keys, stream, limit).await {
                Ok((false, _)) => return Err(QuotaError::TooMany),
                Ok((true, older)) => replaced = replaced.or(older),
                // Streams need no Redis. This one is counted with the next renewal.
                Err(error) => debug!(error = %error, "a stream is not counted yet: {error}"),
            }
        }
        Ok((lease, replaced))
    }

    /// Counts one stream more, after removing leases of vanished gateways if there are too many.
    async fn try_acquire(
        &self,
        keys: &LeaseKeys,
        stream: StreamKey,
        limit: u32,
    ) -> RedisResult<(bool, Option<StreamKey>)> {
        let mut redis = self.redis.clone();
        let first = scripts::acquire(keys, stream, limit).invoke_async(&mut redis).await;
        let (granted, older): (bool, Option<String>) = first?;
        if granted || !self.remove_abandoned(keys).await? {
            return Ok((granted, older.and_then(|raw| StreamKey::parse(&raw))));
        }
        let (granted, older): (bool, Option<String>) =
            scripts::acquire(keys, stream, limit).invoke_async(&mut redis).await?;
        Ok((granted, older.and_then(|raw| StreamKey::parse(&raw))))
    }

    /// Removes the leases of gateways without a liveness key; true if there were any.
    async fn remove_abandoned(&self, keys: &LeaseKeys) -> RedisResult<bool> {
        let mut redis = self.redis.clone();
        let members: Vec<String> = redis.zrange(&keys.set, 0, -1).await?;
        let gateway_of = |member: &str| StreamKey::parse(member).map(|stream| stream.gateway);
        let gateways: HashSet<u64> = members.iter().filter_map(|member| gateway_of(member)).collect();
        let mut gone = HashSet::new();
        for gateway in gateways.into_iter().filter(|gateway| *gateway != self.gateway) {
            let lives: bool = redis.exists(self.liveness_key(gateway)).await?;
            if !lives {
                gone.insert(gateway);
            }
        }
        let is_abandoned = |member: &&String| gateway_of(member).is_some_and(|gateway| gone.contains(&gateway));
        let abandoned: Vec<&String> = members.iter().filter(is_abandoned).collect();
        if abandoned.is_empty() {
            return Ok(false);
        }
        let _removed: u64 = redis.zrem(&keys.set, abandoned).await?;
        Ok(true)
    }

    /// The sets a stream is counted in, and how many may be in each. The name of a client is kept beside the streams of its
    /// user, also where the user may have any number of them.
    fn counted(&self, holder: &LeaseHolder) -> impl Iterator<Item = (LeaseKeys, u32)> + use<> {
        let names = self.redis.key_space();
        let by_user = self.per_user > 0 || holder.client.is_some();
        let user = by_user.then(|| (LeaseKeys::of_user(names, holder.user, holder.client.clone()), self.per_user));
        let address = (self.per_address > 0).then(|| (LeaseKeys::of_address(names, holder.address), self.per_address));
        user.into_iter().chain(address)
    }

    /// Whether the gateways should be asked now for streams of `user` whose clients have vanished: once in `ASK_EVERY`, however
    /// often the user asks for more than the limit.
    #[must_use]
    pub fn should_ask(&self, user: UserId) -> bool {
        self.asked.entry(user).or_insert(()).is_fresh()
    }

    /// Ends a stream of this gateway whose lease was taken by a newer one, if it is there.
    pub fn end_replaced(&self, stream: StreamKey) {
        if let Some(registered) = self.leases.registered(stream) {
            registered.end(ByeReason::Replaced);
        }
    }

    /// Ends that stream of `user` at this gateway whose client has acknowledged nothing for the longest time, if that is longer
    /// than `heartbeat`: the client has vanished, though the network has not reported it yet.
    pub async fn end_silent(&self, user: UserId, heartbeat: Duration) {
        let streams = self.leases.streams_of(user);
        let silent = tokio::task::spawn_blocking(move || {
            let silences = streams
                .into_iter()
                .filter_map(|(endpoints, stream)| Some((peer_liveness::silence(endpoints?)?, stream)));
            silences.filter(|(silence, _)| *silence > heartbeat).max_by_key(|(silence, _)| *silence)
        });
        if let Ok(Some((_, stream))) = silent.await {
            stream.end(ByeReason::Replaced);
        }
    }

    /// The key that exists while a gateway lives.
    fn liveness_key(&self, gateway: u64) -> String {
        self.redis.key_space().living_gateway(gateway)
    }

    /// Announces that this gateway lives.
    async fn announce(&self) -> RedisResult<()> {
        let millis = u64::try_from(LIVENESS_TTL.as_millis()).unwrap_or(u64::MAX);
        let _: () = self.redis.clone().pset_ex(self.liveness_key(self.gateway), 1, millis).await?;
        self.is_announced.store(true, Ordering::Release);
        Ok(())
    }
}
