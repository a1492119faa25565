//! How many streams a user or an address has open, counted in Redis so that it holds across all gateways.
//!
//! A stream holds a lease: a member of a sorted set whose score is the time at which it counts no longer. The gateway that
//! serves the stream renews the lease while the stream lives and releases it when the stream ends, not before: also while
//! the gateway stops. A gateway that was killed leaves leases behind. They expire, and whoever needs one of them before
//! that finds their gateway gone and removes them.
//!
//! A client that names itself has one stream of a room: its newer one takes the lease of the older one, which is ended
//! wherever it is served.

mod lease_table;
mod scripts;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use redis::{AsyncCommands as _, RedisResult};
use shared::bus::RedisClient;
use shared::domain::{RoomId, SessionId, StreamKey, UserId};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::lease_table::{LeaseHolder, LeaseTable};
use self::scripts::Keys;
use super::peer_liveness::{self, TcpEndpoints};
use super::stream_registry::{ByeReason, RegisteredStream};
use crate::digest::short_digest;

/// How long a lease counts after the gateway that held it has vanished.
const COUNTS_FOR: Duration = Duration::from_mins(1);

/// How often a lease is renewed: two failures in a row do no harm.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// How often a gateway says that it lives, and for how long that is believed. Leases of one that does not are removed by
/// whoever needs them; should it live after all, it counts them again when it renews them.
const SIGN_EVERY: Duration = Duration::from_secs(1);
const SIGNED_FOR: Duration = Duration::from_secs(4);

/// How often the gateways are asked for one user's silent streams.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Users whose asking is remembered; of more, some are asked for more often.
const ASKED: u64 = 10_000;

/// Leases renewed or released by one round trip.
const BATCH: usize = 500;

/// Why a stream may not be opened.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// As many are open as may be.
    #[error("too many streams")]
    TooMany,
}

/// What a stream says of itself when it asks for a lease.
pub struct LeaseRequest {
    /// Who opens it, and by which session.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// What it follows.
    pub room: RoomId,
    /// The name the client gave itself, if it did.
    pub client: Option<ClientName>,
    /// The address it is counted for.
    pub address: IpAddr,
    /// The two ends of its connection, if known.
    pub endpoints: Option<TcpEndpoints>,
}

/// A name by which an app tells its installations or tabs apart: 1–64 of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// Longest name, in characters.
    pub const MAX_LEN: usize = 64;

    /// Reads a name; `None` if it is none.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let fits = (1..=Self::MAX_LEN).contains(&raw.len()) && raw.bytes().all(is_plain);
        fits.then(|| Self(raw.to_owned()))
    }
}

/// A stream's lease, released when dropped.
pub struct StreamLease {
    stream: StreamKey,
    leases: Arc<LeaseTable>,
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
    /// Whether this gateway has said that it lives: leases of one that has not count as abandoned.
    has_signed: Arc<AtomicBool>,
    /// For whom the gateways were asked to make room lately.
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
            has_signed: Arc::default(),
            asked: Cache::builder().max_capacity(ASKED).time_to_live(ASK_EVERY).build(),
        }
    }

    /// A lease for the stream of `connection`, and the older stream of the same client whose lease it took.
    pub async fn acquire(
        &self,
        request: &LeaseRequest,
        connection: &Arc<RegisteredStream>,
    ) -> Result<(StreamLease, Option<StreamKey>), QuotaError> {
        let stream = StreamKey {
            gateway: self.gateway,
            number: self.leases.next_number(),
        };
        let client = request.client.as_ref().map(|client| {
            let (session, room) = (request.session.0.as_bytes(), request.room.0.to_be_bytes());
            short_digest(&[session, &room, client.0.as_bytes()])
        });
        let holder = LeaseHolder {
            user: request.user,
            address: request.address,
            client,
            endpoints: request.endpoints,
            connection: Arc::clone(connection),
        };
        if !self.has_signed.load(Ordering::Acquire) {
            // Without Redis nobody counts, see below.
            let _ = self.sign().await;
        }
        let counted: Vec<(Keys, u32)> = self.counted(&holder).collect();
        // Noted before it is counted, so that it is released whatever happens in between.
        self.leases.begin(stream, holder);
        let lease = StreamLease {
            stream,
            leases: Arc::clone(&self.leases),
        };
        let mut replaced = None;
        for (keys, limit) in counted {
            match self.try_acquire(&keys, stream, limit).await {
                Ok((false, _)) => return Err(QuotaError::TooMany),
                Ok((true, older)) => replaced = replaced.or(older),
                // Reading needs no Redis. It is counted with the next renewal.
                Err(error) => debug!(error = %error, "a stream is not counted yet: {error}"),
            }
        }
        Ok((lease, replaced))
    }

    /// Counts one more, if need be in the place of what a gateway left behind that is gone.
    async fn try_acquire(&self, keys: &Keys, stream: StreamKey, limit: u32) -> RedisResult<(bool, Option<StreamKey>)> {
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

    /// Removes the leases of gateways that no longer say that they live; true if there were any.
    async fn remove_abandoned(&self, keys: &Keys) -> RedisResult<bool> {
        let mut redis = self.redis.clone();
        let members: Vec<String> = redis.zrange(&keys.set, 0, -1).await?;
        let gateway_of = |member: &str| StreamKey::parse(member).map(|stream| stream.gateway);
        let gateways: HashSet<u64> = members.iter().filter_map(|member| gateway_of(member)).collect();
        let mut gone = HashSet::new();
        for gateway in gateways.into_iter().filter(|gateway| *gateway != self.gateway) {
            let lives: bool = redis.exists(self.sign_of(gateway)).await?;
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

    /// The sets a stream is counted in, and how many may be in each. A client's name is kept beside its user's streams,
    /// also where any number of them may be open.
    fn counted(&self, holder: &LeaseHolder) -> impl Iterator<Item = (Keys, u32)> + use<> {
        let names = self.redis.key_space();
        let by_user = self.per_user > 0 || holder.client.is_some();
        let user = by_user.then(|| (Keys::of_user(names, holder.user, holder.client.clone()), self.per_user));
        let address = (self.per_address > 0).then(|| (Keys::of_address(names, holder.address), self.per_address));
        user.into_iter().chain(address)
    }

    /// Whether the gateways should be asked now for streams of `user` behind which there is nobody any more; once in
    /// `ASK_EVERY`, however often somebody wants more than may be open.
    #[must_use]
    pub fn should_ask(&self, user: UserId) -> bool {
        self.asked.entry(user).or_insert(()).is_fresh()
    }

    /// Ends a stream of this gateway whose lease was taken by a newer one, if it is there.
    pub fn replace(&self, stream: StreamKey) {
        if let Some(connection) = self.leases.connection(stream) {
            connection.end(ByeReason::Replaced);
        }
    }

    /// Ends that stream of `user` at this gateway whose client has acknowledged nothing for longest, if that is for longer
    /// than `heartbeat`: there is nobody behind it, though the network has not said so yet.
    pub async fn give_up_silent(&self, user: UserId, heartbeat: Duration) {
        let streams = self.leases.streams_of(user);
        let silent = tokio::task::spawn_blocking(move || {
            let silences = streams
                .into_iter()
                .filter_map(|(ends, connection)| Some((peer_liveness::silence(ends?)?, connection)));
            silences.filter(|(silence, _)| *silence > heartbeat).max_by_key(|(silence, _)| *silence)
        });
        if let Ok(Some((_, connection))) = silent.await {
            connection.end(ByeReason::Replaced);
        }
    }

    /// Renews the leases of open streams and releases those of ended ones, until `stop` is cancelled and the last stream
    /// has ended.
    pub async fn maintain(mut self, stop: CancellationToken) {
        let (mut renewal, mut sign) = (interval(RENEW_EVERY), interval(SIGN_EVERY));
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sign.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(stop.is_cancelled() && self.leases.is_empty()) {
            tokio::select! {
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                () = self.leases.ended() => self.release().await,
                // Without Redis nobody can look.
                _ = sign.tick() => drop(self.sign().await),
                _ = renewal.tick() => self.renew().await,
            }
        }
        self.release().await;
        // What could not be released is abandoned by now.
        let sign = self.sign_of(self.gateway);
        let _: RedisResult<()> = self.redis.del(sign).await;
    }

    /// The key that is there while a gateway lives.
    fn sign_of(&self, gateway: u64) -> String {
        self.redis.key_space().living_gateway(gateway)
    }

    /// Says that this gateway lives.
    async fn sign(&self) -> RedisResult<()> {
        let millis = u64::try_from(SIGNED_FOR.as_millis()).unwrap_or(u64::MAX);
        let _: () = self.redis.clone().pset_ex(self.sign_of(self.gateway), 1, millis).await?;
        self.has_signed.store(true, Ordering::Release);
        Ok(())
    }

    async fn release(&mut self) {
        for some in self.leases.drain_ended().chunks(BATCH) {
            let mut pipeline = redis::pipe();
            pipeline.load_script(&scripts::RELEASE).ignore();
            for (stream, holder) in some {
                for (keys, _) in self.counted(holder) {
                    pipeline.invoke_script(&scripts::release(&keys, *stream)).ignore();
                }
            }
            // What could not be released is no longer renewed and expires.
            let _: RedisResult<()> = pipeline.query_async(&mut self.redis).await;
        }
    }

    async fn renew(&mut self) {
        for some in self.leases.open().chunks(BATCH) {
            let mut pipeline = redis::pipe();
            pipeline.load_script(&scripts::RENEW).ignore();
            let mut renewed = Vec::new();
            for (stream, holder) in some {
                for (keys, _) in self.counted(holder) {
                    pipeline.invoke_script(&scripts::renew(&keys, *stream));
                    renewed.push(*stream);
                }
            }
            let outcome: RedisResult<Vec<bool>> = pipeline.query_async(&mut self.redis).await;
            match outcome {
                // Nobody may have been able to tell this gateway that a newer stream has taken over.
                Ok(held) => {
                    let lost = renewed.into_iter().zip(held).filter(|(_, held)| !held);
                    lost.for_each(|(stream, _)| self.replace(stream));
                }
                Err(error) => {
                    warn!(error = %error, "cannot renew the leases of open streams: {error}");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_by_letters_digits_and_two_signs() {
        for good in ["a", "Tab-1_x", &"x".repeat(64)] {
            assert!(ClientName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "ä", "a.b", "a/b", &"x".repeat(65)] {
            assert!(ClientName::parse(bad).is_none(), "{bad}");
        }
    }
}
