//! Presence: tells users which of those they share a direct room with are there.
//!
//! It is off unless an operator wants it, and has a budget of its own: nothing of it is sent through the channels of messages. Each gateway marks
//! its users in one sorted set in Redis, and looks in it for those whom its users may know about. Each user is marked and told once in 30 s, a
//! thirtieth of them in each second, and gets what changed meanwhile as one event:
//!
//! ```text
//! each second:  streams here ──► users of this turn ──► mark ──► whom they may know about: SQL ──► who of these is marked ──► changes
//! ```
//!
//! A stream that has just been opened does not wait for its turn. A gateway that is killed marks nobody any more, and its users are gone when
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

use crate::live::{Followed, PresentUser, RegisteredStream, StreamRegistry, UserInbox, UserTopic};

/// Parts that the users are divided into: one of them has its turn each time, so each user has one every 30 s.
const TURNS: i64 = 30;

/// Time between two turns.
const BETWEEN_TURNS: Duration = Duration::from_secs(1);

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

/// The users who are told, and their streams.
#[derive(Default)]
struct Watchers {
    /// Whom each user with a stream of all rooms may know about.
    partners: HashMap<UserId, Partners>,
    /// What each such stream was told, by the address of its inbox. It is no other one's as long as a weak reference is here.
    told: HashMap<usize, Told>,
}

/// Whom a user may know about, as SQL said when the user's rooms had changed so many times.
struct Partners {
    topic: Weak<UserTopic>,
    changes: u64,
    others: Vec<(UserId, String)>,
}

impl Partners {
    fn none(topic: &Arc<UserTopic>) -> Self {
        Self {
            topic: Arc::downgrade(topic),
            changes: topic.changes(),
            others: Vec::new(),
        }
    }

    fn is_of(&self, topic: &Arc<UserTopic>) -> bool {
        std::ptr::eq(self.topic.as_ptr(), Arc::as_ptr(topic)) && self.changes == topic.changes()
    }
}

/// Who was there when a stream was told last.
struct Told {
    inbox: Weak<UserInbox>,
    online: HashSet<UserId>,
}

impl Told {
    fn nothing(inbox: &Arc<UserInbox>) -> Self {
        Self {
            inbox: Arc::downgrade(inbox),
            online: HashSet::new(),
        }
    }
}

/// Why users could not be told.
#[derive(Debug, thiserror::Error)]
enum TurnError {
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
        let mut ticks = interval(BETWEEN_TURNS);
        // Turns that were missed are not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in (0..TURNS).cycle() {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // It is said elsewhere that Redis or SQL fails, and the next turn tells the rest.
            if let Err(error) = self.take_turn(turn).await {
                debug!(error = %error, "nobody was told who is there: {error}");
            }
        }
    }

    async fn take_turn(&mut self, turn: i64) -> Result<(), TurnError> {
        self.watchers.forget_closed();
        let streams = self.registry.all();
        let mut present: HashSet<UserId> =
            streams.iter().map(|stream| stream.user).filter(|user| user.0 % TURNS == turn).collect();
        let due: Vec<&Arc<UserInbox>> = streams
            .iter()
            .filter_map(|stream| inbox_of(stream))
            .filter(|inbox| present.contains(&inbox.topic.user) || !self.watchers.told.contains_key(&address(inbox)))
            .collect();
        present.extend(due.iter().map(|inbox| inbox.topic.user));
        self.mark(&present.into_iter().collect::<Vec<_>>()).await?;
        self.read_partners(&due).await?;
        let online = self.online_partners(&due).await?;
        for inbox in due {
            self.watchers.tell(inbox, &online);
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

    /// Reads whom the users of streams may know about, where that may have changed.
    async fn read_partners(&mut self, due: &[&Arc<UserInbox>]) -> Result<(), StoreError> {
        let mut unknown = HashMap::new();
        for topic in due.iter().map(|inbox| &inbox.topic) {
            if !self.watchers.partners.get(&topic.user).is_some_and(|known| known.is_of(topic)) {
                // Counted before SQL is asked: what changes after that is read once more.
                unknown.insert(topic.user, Partners::none(topic));
            }
        }
        let users: Vec<UserId> = unknown.keys().copied().collect();
        for some in users.chunks(USERS_AT_ONCE) {
            for partner in self.store.direct_partners(some, PARTNERS_AT_MOST).await? {
                if let Some(partners) = unknown.get_mut(&partner.user) {
                    partners.others.push((partner.other, partner.username));
                }
            }
        }
        self.watchers.partners.extend(unknown);
        Ok(())
    }

    /// Those of whom the users of streams may know that are present.
    async fn online_partners(&mut self, due: &[&Arc<UserInbox>]) -> RedisResult<HashSet<UserId>> {
        let known = due.iter().filter_map(|inbox| self.watchers.partners.get(&inbox.topic.user));
        let others: HashSet<UserId> =
            known.flat_map(|partners| partners.others.iter().map(|(other, _)| *other)).collect();
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
    /// Forgets streams that are closed, and users who have none.
    fn forget_closed(&mut self) {
        self.told.retain(|_, told| told.inbox.strong_count() > 0);
        self.partners.retain(|_, partners| partners.topic.strong_count() > 0);
    }

    /// Tells a stream what changed since it was told last. One that was told nothing yet takes all others for gone.
    fn tell(&mut self, inbox: &Arc<UserInbox>, online: &HashSet<UserId>) {
        let Some(partners) = self.partners.get(&inbox.topic.user) else {
            return;
        };
        let told = self.told.entry(address(inbox)).or_insert_with(|| Told::nothing(inbox));
        let mut changed = Vec::new();
        for (other, username) in &partners.others {
            let is_online = online.contains(other);
            let has_changed = if is_online {
                told.online.insert(*other)
            } else {
                told.online.remove(other)
            };
            if has_changed {
                changed.push(PresentUser {
                    username: username.clone(),
                    online: is_online,
                });
            }
        }
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

    /// Watchers with one stream, whose user shares direct rooms with bob and with cid.
    fn watched() -> (Watchers, Arc<UserInbox>) {
        let inbox = Arc::new(UserInbox::new(UserTopics::default().open(UserId(1))));
        let mut partners = Partners::none(&inbox.topic);
        partners.others = vec![(BOB, "bob".to_owned()), (UserId(3), "cid".to_owned())];
        let mut watchers = Watchers::default();
        watchers.partners.insert(UserId(1), partners);
        (watchers, inbox)
    }

    #[test]
    fn a_stream_is_told_what_changed_since_it_was_told_last() {
        let (mut watchers, inbox) = watched();
        let mut tell = |online: &[UserId]| {
            watchers.tell(&inbox, &online.iter().copied().collect());
            inbox.take_ephemeral()
        };
        assert!(tell(&[]).is_empty(), "whoever is not there is not mentioned");
        let one = |online: bool| format!(r#"{{"users":[{{"username":"bob","online":{online}}}]}}"#);
        assert_eq!(tell(&[BOB, UserId(9)]), [one(true)]);
        assert!(tell(&[BOB]).is_empty());
        assert_eq!(tell(&[]), [one(false)]);
    }

    #[test]
    fn partners_are_read_again_when_rooms_have_changed() {
        let (mut watchers, inbox) = watched();
        assert!(watchers.partners[&UserId(1)].is_of(&inbox.topic));
        inbox.lose_some();
        assert!(!watchers.partners[&UserId(1)].is_of(&inbox.topic));
        watchers.tell(&inbox, &HashSet::new());
        watchers.forget_closed();
        assert_eq!((watchers.partners.len(), watchers.told.len()), (1, 1));
        drop(inbox);
        watchers.forget_closed();
        assert_eq!((watchers.partners.len(), watchers.told.len()), (0, 0));
    }
}
