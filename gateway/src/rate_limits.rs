//! Rate limits of clients, counted in Redis so that they hold across all gateways.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use shared::bus::RedisClient;
use shared::domain::{Email, UserId};
use shared::telemetry::LogEvent;
use tracing::debug;

use crate::client_network::network;
use crate::config::LimitArgs;
use crate::digest::short_digest;

/// The generic cell rate algorithm (ITU-T I.371): the key holds the time at which the bucket is full again.
///
/// KEYS: the bucket. ARGV: time between two tokens in µs, tokens the bucket holds. Returns 0, or the µs to wait.
/// Redis's own clock counts, so that gateways need not agree on the time.
static CONSUME: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME')
         local now = t[1] * 1000000 + t[2]
         local gap, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
         local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
         local wait = full + gap - now - gap * burst
         if wait > 0 then return wait end
         redis.call('SET', KEYS[1], string.format('%.0f', full + gap), 'PX', math.ceil((full + gap - now) / 1000))
         return 0",
    )
});

/// Returns one token to the bucket. KEYS: the bucket. ARGV: time between two tokens in µs.
static REFUND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME')
         local now = t[1] * 1000000 + t[2]
         local full = tonumber(redis.call('GET', KEYS[1]) or now) - ARGV[1]
         if full <= now then redis.call('DEL', KEYS[1]) return 0 end
         redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
         return 0",
    )
});

/// How often something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    /// Time in which one more is allowed.
    every: Duration,
    /// How many are allowed at once.
    burst: u32,
}

impl Rate {
    /// `count` in each `period`, all at once if need be; `None` if `count` is 0, which means no limit.
    fn per(period: Duration, count: u32) -> Option<Self> {
        (count > 0).then(|| Self {
            every: period / count,
            burst: count,
        })
    }

    /// Time in which one more is allowed, in µs.
    fn micros(&self) -> u64 {
        u64::try_from(self.every.as_micros()).unwrap_or(u64::MAX)
    }
}

/// Why something may not be done now.
#[derive(Debug, thiserror::Error)]
pub enum RateLimited {
    /// It was done too often.
    #[error("done too often")]
    TooOften {
        /// When it may be done again.
        retry_after: Duration,
    },
    /// It cannot be counted.
    #[error("cannot count: {0}")]
    Redis(#[from] redis::RedisError),
}

/// The buckets that one attempt to log in is counted against. It is counted before the password is verified, so that
/// concurrent attempts count too, and refunded when the password was right: only failures stay.
pub struct LoginAttempt(Vec<(Rate, String)>);

/// Which client makes an attempt to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginClient {
    /// A device or network from which the user has logged in before, under a name that reveals nothing of it.
    Known(String),
    /// Any other.
    Unknown,
}

/// Failures from all unknown clients on one account in an hour.
const UNKNOWN_PER_ACCOUNT: u32 = 100;

/// Failures from all unknown clients on all accounts in a minute.
const UNKNOWN_IN_ALL: u32 = 600;

static REFUSED: LogEvent = LogEvent::refusal("rate_limited", "a rate limit was exceeded");

/// The rate limits of this installation. Clones share the counts, which are in Redis.
#[derive(Clone)]
pub struct RateLimits {
    redis: RedisClient,
    post: Option<Rate>,
    login_account: Option<Rate>,
    login_address: Option<Rate>,
    register: Option<Rate>,
    create_room: Option<Rate>,
    join: Option<Rate>,
}

impl RateLimits {
    /// The limits of `args`, counted through `redis`.
    #[must_use]
    pub fn new(args: &LimitArgs, redis: RedisClient) -> Self {
        let post = Rate::per(Duration::from_secs(1), args.post_per_s);
        Self {
            redis,
            post: post.map(|rate| Rate {
                burst: args.post_burst.max(1),
                ..rate
            }),
            login_account: Rate::per(Duration::from_mins(5), args.login_per_account),
            login_address: Rate::per(Duration::from_mins(10), args.login_per_address),
            register: Rate::per(Duration::from_hours(1), args.register_per_address),
            create_room: Rate::per(Duration::from_hours(1), args.create_room_per_hour),
            join: Rate::per(Duration::from_mins(1), args.join_per_min),
        }
    }

    /// Counts a message posted by `user`.
    pub async fn post(&self, user: UserId) -> Result<(), RateLimited> {
        self.consume(self.post, "post", user.0).await
    }

    /// Counts a read mark or a setting of `user`: as many as messages, beside them.
    pub async fn mark(&self, user: UserId) -> Result<(), RateLimited> {
        self.consume(self.post, "mark", user.0).await
    }

    /// Counts a registration from `address`.
    pub async fn register(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.consume(self.register, "register", network(address)).await
    }

    /// Counts a room that `user` creates.
    pub async fn create_room(&self, user: UserId) -> Result<(), RateLimited> {
        self.consume(self.create_room, "room", user.0).await
    }

    /// Counts a room that `user` joins, leaves or hides, or a direct room that they open.
    pub async fn join(&self, user: UserId) -> Result<(), RateLimited> {
        self.consume(self.join, "join", user.0).await
    }

    /// Counts an attempt to log in as `email` from `address`, whether or not there is such an account: the answer must not
    /// reveal it. Unknown clients cannot use up what is set aside for known ones, whatever they try.
    pub async fn log_in(
        &self,
        email: &Email,
        address: IpAddr,
        client: &LoginClient,
    ) -> Result<LoginAttempt, RateLimited> {
        let account = short_digest(&[email.key().as_bytes()]);
        let network = network(address);
        let (per_account, per_address) = (self.login_account, self.login_address);
        let buckets = match client {
            LoginClient::Known(by) => vec![(per_account, format!("known:{account}:{by}"))],
            LoginClient::Unknown => vec![
                (per_account, format!("account:{account}:{network}")),
                (per_address, format!("address:{network}")),
                (
                    per_account.and(Rate::per(Duration::from_hours(1), UNKNOWN_PER_ACCOUNT)),
                    format!("strangers:{account}"),
                ),
                (per_address.and(Rate::per(Duration::from_mins(1), UNKNOWN_IN_ALL)), "strangers".to_owned()),
            ],
        };
        let mut attempt = LoginAttempt(Vec::new());
        for (rate, who) in buckets {
            let Some(rate) = rate else {
                continue;
            };
            if let Err(limited) = self.consume(Some(rate), "login", &who).await {
                self.refund(attempt).await;
                return Err(limited);
            }
            attempt.0.push((rate, self.redis.key_space().rate("login", &who)));
        }
        Ok(attempt)
    }

    /// Refunds an attempt that was not a failure.
    pub async fn refund(&self, attempt: LoginAttempt) {
        for (rate, bucket) in attempt.0 {
            let given: Result<(), _> =
                REFUND.key(bucket).arg(rate.micros()).invoke_async(&mut self.redis.clone()).await;
            if let Err(error) = given {
                // The bucket refills by itself, a little later.
                debug!(error = %error, "cannot give back an attempt: {error}");
            }
        }
    }

    async fn consume(&self, rate: Option<Rate>, what: &str, who: impl std::fmt::Display) -> Result<(), RateLimited> {
        let Some(rate) = rate else {
            return Ok(());
        };
        let wait: u64 = CONSUME
            .key(self.redis.key_space().rate(what, &who))
            .arg(rate.micros())
            .arg(rate.burst)
            .invoke_async(&mut self.redis.clone())
            .await?;
        match wait {
            0 => Ok(()),
            wait => {
                REFUSED.report(format_args!("{what}:{who}"), "");
                Err(RateLimited::TooOften {
                    retry_after: Duration::from_micros(wait),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_means_no_limit() {
        assert_eq!(Rate::per(Duration::from_mins(1), 0), None);
        let rate = Rate::per(Duration::from_mins(1), 30).unwrap();
        assert_eq!((rate.every, rate.burst), (Duration::from_secs(2), 30));
    }
}
