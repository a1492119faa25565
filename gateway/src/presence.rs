//! Presence: tells users which of those they share a direct room with are there.
//!
//! It is off unless an operator wants it, and has a budget of its own: nothing of it is sent through the channels of messages. Each gateway marks
//! its users in one sorted set in Redis, and looks in it for those whom its users may know about. Each user is marked and told once in 30 s, a
//! thirtieth of them in each second, and gets what changed meanwhile as one event:
//!
//! ```text
//! each second:  streams here ──► users of this round ──► mark ──► whom they may know about: SQL ──► who of these is marked ──► changes
//! ```
//!
//! A stream that has just been opened does not wait for its round. A gateway that is killed marks nobody any more, and its users are gone when
//! their marks end.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use redis::{RedisResult, Script};
use shared::bus::RedisClient;
use shared::domain::UserId;
use shared::storage::{Store, StoreError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::live::{Followed, PresentUser, RegisteredStream, StreamRegistry, UserInbox};

/// Parts that the users are divided into: one of them has its round each time, so each user has one every 30 s.
const ROUNDS: i64 = 30;

/// Time between two turns.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);

/// How long a mark lasts: two that were lost do not make a user go.
const MARK_TTL: Duration = Duration::from_secs(75);

/// Others of whom one user is told: those of the direct rooms with the latest entries.
const PARTNERS_AT_MOST: u32 = 100;

/// Users in one command to Redis, and in one query.
const USERS_AT_ONCE: usize = 500;

/// KEYS: the set. ARGV: the time to live in ms, then users.
static MARK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME')
         local now = t[1] * 1000 + math.floor(t[2] / 1000)
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
         for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
         redis.call('PEXPIRE', KEYS[1], ARGV[1])
         return 1",
    )
});

/// KEYS: the set. ARGV: users. Returns 1 or 0 for each: whether they are marked.
static ASK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME')
         local now = t[1] * 1000 + math.floor(t[2] / 1000)
         local marks = redis.call('ZMSCORE', KEYS[1], unpack(ARGV))
         for i, mark in ipairs(marks) do marks[i] = (mark and tonumber(mark) > now) and 1 or 0 end
         return marks",
    )
});

/// The part of a gateway that tells who is there.
pub struct Presence {
    store: Store,
    redis: RedisClient,
    registry: StreamRegistry,
    watchers: Watchers,
}

/// What each stream of all rooms was told, by the address of its inbox. It is no other one's as long as a weak reference is here.
#[derive(Default)]
struct Watchers(HashMap<usize, Watcher>);

/// Whom each user may know about, with their names.
type Partners = HashMap<UserId, Vec<(UserId, String)>>;

/// Who was there when a stream was told last, with their names.
struct Watcher {
    inbox: Weak<UserInbox>,
    online: HashMap<UserId, String>,
}

impl Watcher {
    fn nothing(inbox: &Arc<UserInbox>) -> Self {
        Self {
            inbox: Arc::downgrade(inbox),
            online: HashMap::new(),
        }
    }
}

/// Why users could not be watcher.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

impl Presence {
    /// Tells those who have streams of all their rooms in `registry`. Everybody with a stream in it is there.
    #[must_use]
    pub fn new(store: Store, redis: RedisClient, registry: StreamRegistry) -> Self {
        Self {
            store,
            redis,
            registry,
            watchers: Watchers::default(),
        }
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(BETWEEN_ROUNDS);
        // Turns that were missed are not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in (0..ROUNDS).cycle() {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // It is said elsewhere that Redis or SQL fails, and the next round tells the rest.
            if let Err(error) = self.run_round(round).await {
                debug!(error = %error, "nobody was told who is there: {error}");
            }
        }
    }

    async fn run_round(&mut self, round: i64) -> Result<(), RoundError> {
        self.watchers.forget_closed();
        let streams = self.registry.all();
        let mut present: HashSet<UserId> =
            streams.iter().map(|stream| stream.user).filter(|user| user.0 % ROUNDS == round).collect();
        let due: Vec<&Arc<UserInbox>> = streams
            .iter()
            .filter_map(|stream| inbox_of(stream))
            .filter(|inbox| present.contains(&inbox.topic.user) || !self.watchers.has(inbox))
            .collect();
        present.extend(due.iter().map(|inbox| inbox.topic.user));
        self.mark(&present.into_iter().collect::<Vec<_>>()).await?;
        let partners = self.read_partners(&due).await?;
        let online = self.online_partners(&partners).await?;
        for inbox in due {
            let of_user = partners.get(&inbox.topic.user).map_or(&[][..], Vec::as_slice);
            self.watchers.notify(inbox, of_user, &online);
        }
        Ok(())
    }

    /// Marks users as present.
    async fn mark(&mut self, users: &[UserId]) -> RedisResult<()> {
        let key = self.redis.key_space().present_users();
        for some in users.chunks(USERS_AT_ONCE) {
            let mut mark = MARK.key(&key);
            mark.arg(u64::try_from(MARK_TTL.as_millis()).unwrap_or(u64::MAX));
            for user in some {
                mark.arg(user.0);
            }
            let _: i64 = mark.invoke_async(&mut self.redis).await?;
        }
        Ok(())
    }

    /// Reads whom the users of streams may know about. That is read anew each time: one who hides a direct room changes nothing for the other.
    async fn read_partners(&self, due: &[&Arc<UserInbox>]) -> Result<Partners, StoreError> {
        let users: HashSet<UserId> = due.iter().map(|inbox| inbox.topic.user).collect();
        let users: Vec<UserId> = users.into_iter().collect();
        let mut partners = Partners::new();
        for some in users.chunks(USERS_AT_ONCE) {
            for partner in self.store.direct_partners(some, PARTNERS_AT_MOST).await? {
                partners.entry(partner.user).or_default().push((partner.other, partner.username));
            }
        }
        Ok(partners)
    }

    /// Those of whom somebody may know that are present.
    async fn online_partners(&mut self, partners: &Partners) -> RedisResult<HashSet<UserId>> {
        let others: HashSet<UserId> = partners.values().flatten().map(|(other, _)| *other).collect();
        let others: Vec<UserId> = others.into_iter().collect();
        let key = self.redis.key_space().present_users();
        let mut online = HashSet::new();
        for some in others.chunks(USERS_AT_ONCE) {
            let mut ask = ASK.key(&key);
            for user in some {
                ask.arg(user.0);
            }
            let marks: Vec<i64> = ask.invoke_async(&mut self.redis).await?;
            let present = some.iter().zip(marks).filter(|(_, mark)| *mark == 1);
            online.extend(present.map(|(user, _)| *user));
        }
        Ok(online)
    }
}

impl Watchers {
    fn forget_closed(&mut self) {
        self.0.retain(|_, watcher| watcher.inbox.strong_count() > 0);
    }

    fn has(&self, inbox: &Arc<UserInbox>) -> bool {
        self.0.contains_key(&address(inbox))
    }

    /// Tells a stream what changed since it was told last, when those of its user's `partners` are there that are `online`. One that was told
    /// nothing yet takes all others for gone, and so does everyone who may no longer know.
    fn notify(&mut self, inbox: &Arc<UserInbox>, partners: &[(UserId, String)], online: &HashSet<UserId>) {
        let watcher = self.0.entry(address(inbox)).or_insert_with(|| Watcher::nothing(inbox));
        let now: HashMap<UserId, String> =
            partners.iter().filter(|(other, _)| online.contains(other)).cloned().collect();
        let event = |username: &String, online| PresentUser {
            username: username.clone(),
            online,
        };
        let gone = watcher
            .online
            .iter()
            .filter(|(user, _)| !now.contains_key(user))
            .map(|(_, name)| event(name, false));
        let come = now.iter().filter(|(user, _)| !watcher.online.contains_key(user)).map(|(_, name)| event(name, true));
        let changed: Vec<PresentUser> = gone.chain(come).collect();
        watcher.online = now;
        if !changed.is_empty() {
            inbox.push_presence(&changed);
        }
    }
}

/// The inbox of a stream of all rooms.
fn inbox_of(stream: &RegisteredStream) -> Option<&Arc<UserInbox>> {
    match &stream.followed {
        Followed::AllRooms(inbox) => Some(inbox),
        Followed::Room { .. } => None,
    }
}

fn address(inbox: &Arc<UserInbox>) -> usize {
    Arc::as_ptr(inbox).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::UserTopics;

    const BOB: UserId = UserId(2);

    #[test]
    fn a_stream_gets_what_changed_since_its_last_notice() {
        let inbox = Arc::new(UserInbox::new(UserTopics::default().open(UserId(1))));
        let partners = [(BOB, "bob".to_owned()), (UserId(3), "cid".to_owned())];
        let mut watchers = Watchers::default();
        let mut notify = |partners: &[(UserId, String)], online: &[UserId]| {
            watchers.notify(&inbox, partners, &online.iter().copied().collect());
            inbox.take_ephemeral()
        };
        assert!(notify(&partners, &[]).is_empty(), "whoever is not there is not mentioned");
        let one = |online: bool| format!(r#"{{"users":[{{"username":"bob","online":{online}}}]}}"#);
        assert_eq!(notify(&partners, &[BOB, UserId(9)]), [one(true)]);
        assert!(notify(&partners, &[BOB]).is_empty());
        assert_eq!(notify(&partners, &[]), [one(false)]);
        // Whoever hides the room is gone, too.
        assert_eq!(notify(&partners, &[BOB]), [one(true)]);
        assert_eq!(notify(&partners[1..], &[BOB]), [one(false)]);
        drop(inbox);
        watchers.forget_closed();
        assert!(watchers.0.is_empty());
    }
}
