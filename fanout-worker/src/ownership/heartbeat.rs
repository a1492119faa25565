//! The task that keeps our place among the workers.
//!
//! One sorted set holds the living workers, each with the time at which its place runs out by Redis's own clock. One script
//! renews our place, throws out whose time is over and returns who is left; it is atomic, so all workers see the same
//! sequence of sets. It writes only when a quarter of our time is used up: with a synced append-only file each write is a
//! disk flush, and looking ten times a second must not cost ten of them.
//!
//! The connection it runs on subscribes to a channel with our name, on which nothing is ever said: Redis knows by it that
//! we are connected. When a process dies, its host closes the connection at once, and whoever looks next has the dead one's
//! place run out after [`GRACE`] instead of [`TTL`]. The time alone remains for what closes nothing: a process that is
//! paused, a host that lost its power, a network that swallows.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Script, Value, cmd};
use shared::bus::{Node, RedisConnector};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::worker_registry::{GRACE, HEARTBEAT, TTL, View, WorkerName};

/// How much earlier than Redis a worker gives itself up for lost: what two clocks may differ in over [`TTL`], and more.
const MARGIN: Duration = Duration::from_millis(200);

/// How much of a place's time is used up before it is renewed.
const RENEW_AFTER: Duration = Duration::from_millis(400);

/// How long one look may take, connecting included: Redis may stand still for a slow disk. After that the next one is
/// tried, in time for keeping the place.
const BEAT_WITHIN: Duration = Duration::from_millis(700);

/// Renews the place of `ARGV[1]` for `ARGV[2]` ms if `ARGV[3]` ms of it are used up; leaves `ARGV[4]` ms to others of which
/// no connection has subscribed to `ARGV[5]` followed by their name; returns how many ms are left of our place, and the
/// living. Times far in the future come from a server whose clock ran ahead: they would live on for as long. allow-oom: a
/// Redis whose memory is full gets room by a worker that reads it.
static BEAT: LazyLock<Script> = LazyLock::new(|| {
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

/// The task that looks and renews.
pub(super) struct Heartbeat {
    redis: RedisConnector,
    /// None until connected, and after any error.
    line: Option<Line>,
    /// The name of the next look; that of the last view unless the place was lost since.
    me: WorkerName,
    told: watch::Sender<View>,
    complained: bool,
}

/// The connection to the server that has the set, by which it knows that we are there.
struct Line {
    node: Node,
    connection: MultiplexedConnection,
    /// Under which name it knows us.
    shown: WorkerName,
}

impl Heartbeat {
    /// A task that takes a place for `me` and reports to `told`.
    pub(super) fn new(redis: RedisConnector, me: WorkerName, told: watch::Sender<View>) -> Self {
        Self {
            redis,
            line: None,
            me,
            told,
            complained: false,
        }
    }

    /// Looks and renews while `wished` is true, leaves when it is false, until nobody can wish any more.
    pub(super) async fn run(mut self, mut wished: watch::Receiver<bool>) {
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                changed = wished.changed() => if changed.is_err() { return },
            }
            let in_the_set = !self.told.borrow().living.is_empty();
            let wished_in = *wished.borrow_and_update();
            let done = match (wished_in, in_the_set) {
                (true, _) => timeout(BEAT_WITHIN, self.look()).await,
                (false, true) => timeout(BEAT_WITHIN, self.leave()).await,
                (false, false) => continue,
            };
            let done = done.unwrap_or_else(|_| Err(no_answer()));
            if let Err(error) = &done {
                self.line = None;
                self.redis.note_error(error);
            }
            self.complain_once(done);
        }
    }

    /// Renews the place and tells who lives. A place that was lost meanwhile is taken anew under a new name: whoever got
    /// our partitions keeps them.
    async fn look(&mut self) -> RedisResult<()> {
        let asked_at = Instant::now();
        if self.has_lapsed(asked_at) {
            self.me = WorkerName::fresh();
        }
        let (me, keys) = (self.me.clone(), Arc::clone(self.redis.key_space()));
        let (left_ms, living): (u64, Vec<String>) = BEAT
            .key(keys.workers())
            .arg(me.as_str())
            .arg(millis(TTL))
            .arg(millis(RENEW_AFTER))
            .arg(millis(GRACE))
            .arg(keys.presence_channel(""))
            .invoke_async(self.line().await?)
            .await?;
        self.told.send_replace(View {
            me,
            living: living.into_iter().map(WorkerName::read).collect(),
            asked_at,
            valid_until: asked_at + Duration::from_millis(left_ms).saturating_sub(MARGIN),
        });
        Ok(())
    }

    /// The connection, made anew if there is none to the server that has the set now, or none under our present name.
    async fn line(&mut self) -> RedisResult<&mut MultiplexedConnection> {
        let unknown =
            || RedisError::from((ErrorKind::ClusterConnectionNotFound, "it is not known which Redis has the workers"));
        let node = self.redis.node_of_channel(&self.redis.key_space().presence_channel("")).ok_or_else(unknown)?;
        let line = match self.line.take() {
            Some(line) if line.node == node && line.shown == self.me => line,
            _ => self.connect(node).await?,
        };
        Ok(&mut self.line.insert(line).connection)
    }

    async fn connect(&self, node: Node) -> RedisResult<Line> {
        // Nobody says anything on our channel; that the connection is lost shows at the next look.
        let unheard = |_: PushInfo| Ok::<(), RedisError>(());
        let mut connection = self.redis.connect_for_pushes(&node, unheard).await?;
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
        Ok(Line {
            node,
            connection,
            shown: self.me.clone(),
        })
    }

    /// Whether the place of the last view is lost at `now`, and no new name was chosen since.
    fn has_lapsed(&self, now: Instant) -> bool {
        let view = self.told.borrow();
        view.me == self.me && view.valid_until <= now
    }

    async fn leave(&mut self) -> RedisResult<()> {
        let (me, keys) = (self.me.clone(), Arc::clone(self.redis.key_space()));
        let asked_at = Instant::now();
        let _was_there: u64 = self.line().await?.zrem(keys.workers(), me.as_str()).await?;
        self.told.send_replace(View {
            me,
            living: Arc::new([]),
            asked_at,
            valid_until: asked_at,
        });
        Ok(())
    }

    fn complain_once(&mut self, done: RedisResult<()>) {
        match done {
            Ok(()) if self.complained => info!("Redis answers again"),
            Err(error) if !self.complained => {
                warn!(error = %error, "Redis cannot be asked who is alive, trying on: {error}");
            }
            Ok(()) | Err(_) => return,
        }
        self.complained = !self.complained;
    }
}

fn no_answer() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer in time"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a few seconds")
}
