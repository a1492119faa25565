//! The heartbeat: the task that renews this worker's registration and reads who else is alive.
//!
//! One sorted set holds the living workers, each with the time at which its registration expires by Redis's own clock. One
//! script renews that of this worker, removes expired ones and returns who is left; it is atomic, so all workers see the same
//! sequence of sets. It writes only when a quarter of the registration is used up: with a synced append-only file each write
//! is a disk flush, and reading ten times a second must not cost ten of them.
//!
//! Its connection subscribes to a channel with this worker's name, on which nothing is ever published: Redis knows by it that
//! the worker is connected. When a process dies, its host closes the connection at once, and the next heartbeat of any worker
//! lets the dead one's registration expire after [`GRACE`] instead of [`TTL`]. Expiry alone remains for failures that close
//! nothing: a process that is paused, a host that lost its power, a network that drops packets.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Script, Value, cmd};
use shared::bus::{Node, RedisConnector};
use shared::telemetry::FailureSeries;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::view::{GRACE, HEARTBEAT, TTL, View, WorkerName};

/// How much earlier than Redis a worker considers its registration expired: more than two clocks may drift apart within
/// [`TTL`].
const MARGIN: Duration = Duration::from_millis(200);

/// How much of a registration is used up before the worker renews it.
const RENEW_AFTER: Duration = Duration::from_millis(400);

/// How long one heartbeat may take, connecting included: Redis may stand still for a slow disk. After that the next one is
/// tried, in time to keep the registration.
const HEARTBEAT_WITHIN: Duration = Duration::from_millis(700);

/// Renews the registration of `ARGV[1]` for `ARGV[2]` ms if `ARGV[3]` ms of it are used up; leaves `ARGV[4]` ms to others of
/// which no connection has subscribed to `ARGV[5]` followed by their name; returns how many ms are left of this worker's
/// registration, and the living workers. Expiry times far in the future come from a server whose clock ran ahead: those
/// registrations would last for as long. allow-oom: a Redis whose memory is full gets room by a worker that reads it.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
         local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         local ttl, grace = tonumber(ARGV[2]), tonumber(ARGV[4])
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. now + ttl, '+inf')
         local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
         if ends - now <= ttl - tonumber(ARGV[3]) then
           ends = now + ttl
           redis.call('ZADD', KEYS[1], ends, ARGV[1])
           redis.call('PEXPIRE', KEYS[1], ttl)
         end
         for _, name in ipairs(redis.call('ZRANGE', KEYS[1], '(' .. now + grace, '+inf', 'BYSCORE')) do
           if name ~= ARGV[1] and redis.call('PUBSUB', 'SHARDNUMSUB', ARGV[5] .. name)[2] == 0 then
             redis.call('ZADD', KEYS[1], now + grace, name)
           end
         end
         return {ends - now, redis.call('ZRANGE', KEYS[1], 0, -1)}",
    )
});

/// The task that renews the registration and reads the registry.
pub(super) struct Heartbeat {
    redis: RedisConnector,
    /// `None` until connected, and after any error.
    presence: Option<PresenceConnection>,
    /// The name of the next heartbeat; that of the last view unless its registration has expired since.
    me: WorkerName,
    views: watch::Sender<View>,
    failures: FailureSeries,
}

/// The connection to the server that has the registry, by which it knows that this worker is connected.
struct PresenceConnection {
    node: Node,
    connection: MultiplexedConnection,
    /// The name under which the server knows this worker.
    name: WorkerName,
}

impl Heartbeat {
    /// A task that registers `me` and sends its views to `views`.
    pub(super) fn new(redis: RedisConnector, me: WorkerName, views: watch::Sender<View>) -> Self {
        Self {
            redis,
            presence: None,
            me,
            views,
            failures: FailureSeries::default(),
        }
    }

    /// Renews the registration while `wanted` is true, and leaves when it is false, until its sender is gone.
    pub(super) async fn run(mut self, mut wanted: watch::Receiver<bool>) {
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = wanted.changed() => if changed.is_err() { return },
            }
            let is_registered = !self.views.borrow().living.is_empty();
            let is_wanted = *wanted.borrow_and_update();
            let done = match (is_wanted, is_registered) {
                (true, _) => timeout(HEARTBEAT_WITHIN, self.renew()).await,
                (false, true) => timeout(HEARTBEAT_WITHIN, self.leave()).await,
                (false, false) => continue,
            };
            let done = done.unwrap_or_else(|_| Err(no_answer()));
            if let Err(error) = &done {
                self.presence = None;
                self.redis.note_error(error);
            }
            self.log_change(done);
        }
    }

    /// Renews the registration and sends a view. A worker whose registration has expired registers under a new name: the
    /// workers that got its partitions keep them.
    async fn renew(&mut self) -> RedisResult<()> {
        let asked_at = Instant::now();
        if self.has_lapsed(asked_at) {
            self.me = WorkerName::fresh();
        }
        let (me, keys) = (self.me.clone(), Arc::clone(self.redis.key_space()));
        let (left_ms, living): (u64, Vec<String>) = RENEW
            .key(keys.workers())
            .arg(me.as_str())
            .arg(millis(TTL))
            .arg(millis(RENEW_AFTER))
            .arg(millis(GRACE))
            .arg(keys.presence_channel(""))
            .invoke_async(self.connection().await?)
            .await?;
        self.views.send_replace(View {
            me,
            living: living.into_iter().map(WorkerName::from_redis).collect(),
            asked_at,
            valid_until: asked_at + Duration::from_millis(left_ms).saturating_sub(MARGIN),
        });
        Ok(())
    }

    /// The connection, opened anew if there is none to the server that has the registry now, or none under the present name.
    async fn connection(&mut self) -> RedisResult<&mut MultiplexedConnection> {
        let unknown =
            || RedisError::from((ErrorKind::ClusterConnectionNotFound, "it is not known which Redis has the workers"));
        let node = self.redis.node_of_channel(&self.redis.key_space().presence_channel("")).ok_or_else(unknown)?;
        let presence = match self.presence.take() {
            Some(presence) if presence.node == node && presence.name == self.me => presence,
            _ => self.connect(node).await?,
        };
        Ok(&mut self.presence.insert(presence).connection)
    }

    async fn connect(&self, node: Node) -> RedisResult<PresenceConnection> {
        // Nothing is published on the channel; the next heartbeat shows that the connection is lost.
        let ignore = |_: PushInfo| Ok::<(), RedisError>(());
        let mut connection = self.redis.connect_for_pushes(&node, ignore).await?;
        let channel = self.redis.key_space().presence_channel(self.me.as_str());
        let subscribed: Value = cmd("SSUBSCRIBE").arg(channel).query_async(&mut connection).await?;
        if !matches!(
            subscribed,
            Value::Push {
                kind: PushKind::SSubscribe,
                ..
            }
        ) {
            return Err((ErrorKind::UnexpectedReturnType, "a subscription was not confirmed").into());
        }
        Ok(PresenceConnection {
            node,
            connection,
            name: self.me.clone(),
        })
    }

    /// Whether the registration of the last view has expired at `now`, and no new name was chosen since.
    fn has_lapsed(&self, now: Instant) -> bool {
        let view = self.views.borrow();
        view.me == self.me && view.valid_until <= now
    }

    async fn leave(&mut self) -> RedisResult<()> {
        let (me, keys) = (self.me.clone(), Arc::clone(self.redis.key_space()));
        let asked_at = Instant::now();
        let _was_there: u64 = self.connection().await?.zrem(keys.workers(), me.as_str()).await?;
        self.views.send_replace(View {
            me,
            living: Arc::new([]),
            asked_at,
            valid_until: asked_at,
        });
        Ok(())
    }

    /// Logs the first error of an outage, and its end.
    fn log_change(&mut self, done: RedisResult<()>) {
        match done {
            Ok(()) => {
                if self.failures.recovered() {
                    info!("Redis answers again");
                }
            }
            Err(error) => {
                if self.failures.failed() {
                    warn!(error = %error, "Redis cannot be asked who is alive, retrying: {error}");
                }
            }
        }
    }
}

fn no_answer() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer in time"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a few seconds")
}
