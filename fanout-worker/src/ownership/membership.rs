//! Who is alive, as Redis knows it.
//!
//! One sorted set holds the living workers, each with the time at which its place runs out by Redis's own clock. One script
//! renews our place, throws out whose time is over and returns who is left; it is atomic, so all workers see the same
//! sequence of sets. It writes only when a quarter of our time is used up: with a synced append-only file each write is a
//! disk flush, and looking ten times a second must not cost ten of them.
//!
//! What was learnt is believed until our place would run out by our own clock, counted from before the question was sent.
//! A process that was paused compares that clock with the [`View`] before it uses it, and so finds out itself.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{RedisResult, Script};
use shared::bus::{Link, WORKERS};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use uuid::Uuid;

/// How long a worker that vanished keeps its place.
pub const TTL: Duration = Duration::from_secs(2);

/// How often the set is looked at: how soon others take over from a worker that leaves.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// How much earlier than Redis a worker gives itself up for lost: what two clocks may differ in over [`TTL`], and more.
const MARGIN: Duration = Duration::from_millis(200);

/// How much of a place's time is used up before it is renewed.
const RENEW_AFTER: Duration = Duration::from_millis(500);

/// How long one look may take: Redis may stand still for a slow disk. After that the next one is tried, in time for
/// keeping the place.
const BEAT_WITHIN: Duration = Duration::from_secs(1);

/// How long leaving may take. After that our place runs out by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Renews the place of ARGV[1] for ARGV[2] ms if ARGV[3] ms of it are used up; returns how many ms are left of it, and the
/// living. Times far in the future come from a server whose clock ran ahead: they would live on for as long. allow-oom: a
/// Redis whose memory is full gets room by a worker that reads it.
static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
         local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         local ttl = tonumber(ARGV[2])
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. now + ttl, '+inf')
         local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
         if ends - now <= ttl - tonumber(ARGV[3]) then
           ends = now + ttl
           redis.call('ZADD', KEYS[1], ends, ARGV[1])
           redis.call('PEXPIRE', KEYS[1], ttl)
         end
         return {ends - now, redis.call('ZRANGE', KEYS[1], 0, -1)}",
    )
});

/// The name of a worker for as long as it keeps its place. Names sort by the time at which they were taken (UUIDv7).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName(String);

impl WorkerName {
    /// A name nobody had before.
    #[must_use]
    pub fn fresh() -> Self {
        Uuid::now_v7().into()
    }

    /// The name as it stands in Redis and SQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for WorkerName {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl std::fmt::Display for WorkerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one look at the set told.
#[derive(Debug, Clone)]
pub struct View {
    /// The name under which we have our place.
    pub me: WorkerName,
    /// The living, ourselves included; empty if we have left.
    pub living: Arc<[WorkerName]>,
    /// Until when all this counts, by our own clock.
    pub valid_until: Instant,
}

impl View {
    /// The living if the view still counts at `now`, nobody otherwise.
    #[must_use]
    pub fn living_at(&self, now: Instant) -> &[WorkerName] {
        if now < self.valid_until { &self.living } else { &[] }
    }
}

/// Our place among the workers. Dropping it stops the renewal, and the place runs out.
pub struct Membership {
    wish: watch::Sender<bool>,
    view: watch::Receiver<View>,
    _beats: AbortOnDropHandle<()>,
}

impl Membership {
    /// Joins, and keeps the place from now on. It need not have succeeded yet when this returns.
    #[must_use]
    pub fn join(connection: Link) -> Self {
        let (wish, wished) = watch::channel(true);
        let me = WorkerName::fresh();
        let nothing = View {
            me: me.clone(),
            living: Arc::new([]),
            valid_until: Instant::now(),
        };
        let (told, view) = watch::channel(nothing);
        let beats = Beats {
            connection,
            me,
            told,
            complained: false,
        };
        Self {
            wish,
            view,
            _beats: AbortOnDropHandle::new(tokio::spawn(beats.run(wished))),
        }
    }

    /// What is known now. Compare its time with the clock before using it.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits for the next look at the set that succeeds.
    pub async fn looked(&mut self) {
        self.view
            .changed()
            .await
            .expect("the task that looks ends with this membership, or by a panic of its own");
    }

    /// Gives up the place, so that others take over at their next look instead of when it runs out.
    pub async fn leave(&mut self) {
        self.wish.send_replace(false);
        let left = self.view.wait_for(|view| view.living.is_empty());
        if !matches!(timeout(LEAVE_WITHIN, left).await, Ok(Ok(_))) {
            warn!("the place among the workers was not given back and runs out by itself");
        }
    }

    /// Takes a new place after [`Membership::leave`].
    pub fn rejoin(&mut self) {
        self.wish.send_replace(true);
    }
}

/// The task that looks and renews.
struct Beats {
    connection: Link,
    /// The name of the next look; that of the last view unless the place was lost since.
    me: WorkerName,
    told: watch::Sender<View>,
    complained: bool,
}

impl Beats {
    async fn run(mut self, mut wished: watch::Receiver<bool>) {
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
            self.complain_once(done.unwrap_or_else(|_| Err(no_answer())));
        }
    }

    /// Renews the place and tells who lives. A place that was lost meanwhile is taken anew under a new name: whoever got
    /// our partitions keeps them.
    async fn look(&mut self) -> RedisResult<()> {
        let asked_at = Instant::now();
        if self.has_lapsed(asked_at) {
            self.me = WorkerName::fresh();
        }
        let (left_ms, living): (u64, Vec<String>) = BEAT
            .key(WORKERS)
            .arg(self.me.as_str())
            .arg(millis(TTL))
            .arg(millis(RENEW_AFTER))
            .invoke_async(&mut self.connection)
            .await?;
        self.told.send_replace(View {
            me: self.me.clone(),
            living: living.into_iter().map(WorkerName).collect(),
            valid_until: asked_at + Duration::from_millis(left_ms).saturating_sub(MARGIN),
        });
        Ok(())
    }

    /// Whether the place of the last view is lost at `now`, and no new name was chosen since.
    fn has_lapsed(&self, now: Instant) -> bool {
        let view = self.told.borrow();
        view.me == self.me && view.valid_until <= now
    }

    async fn leave(&mut self) -> RedisResult<()> {
        let me = self.me.clone();
        let _was_there: u64 = redis::AsyncCommands::zrem(&mut self.connection, WORKERS, me.as_str()).await?;
        self.told.send_replace(View {
            me,
            living: Arc::new([]),
            valid_until: Instant::now(),
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

fn no_answer() -> redis::RedisError {
    redis::RedisError::from((redis::ErrorKind::Io, "no answer in time"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a few seconds")
}
