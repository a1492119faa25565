//! The service of typing: tells those who follow a room that a user is typing there.
//!
//! Notices go nowhere but to streams that are open, and are dropped first. There is at most one a second of each user at this gateway: within that
//! time the latest one waits for its end, so that who stops typing is not shown as typing on. Of a room there are few a second, however
//! many type in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use shared::bus::{RedisClient, RoomEvent, TypingNotice};
use shared::domain::{RoomId, UserId};
use shared::storage::{Installation, User};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::policy::Action;
use crate::rooms::{RoomError, RoomLookup};

/// Shortest time between two notices of a user.
const USER_PAUSE: Duration = Duration::from_secs(1);

/// How long it is remembered when the last notice of a user was: longer than one may wait.
const USER_REMEMBERED: Duration = Duration::from_secs(3);

/// Notices of one room that this gateway sends in a window, and how long that is.
const ROOM_NOTICES: u32 = 10;
const ROOM_WINDOW: Duration = Duration::from_secs(1);

/// Notices on their way to Redis, or waiting for their time. The others are dropped.
const IN_FLIGHT: usize = 1_024;

/// Users and rooms that are remembered for it.
const REMEMBERED: u64 = 100_000;

/// The service of typing. Clones share what is remembered.
#[derive(Clone)]
pub struct TypingNotices {
    rooms: RoomLookup,
    redis: RedisClient,
    installation: Installation,
    /// When there may be the next notice of a user, of those that there was one of lately.
    users: Cache<UserId, Arc<Mutex<Pace>>>,
    /// How many notices of a room were sent in its window.
    sent: Cache<RoomId, Arc<AtomicU32>>,
    /// Notices that Redis has not taken yet.
    in_flight: Arc<Semaphore>,
}

/// The notices of one user.
#[derive(Default)]
struct Pace {
    /// When there may be the next one; `None` at once.
    next_at: Option<Instant>,
    /// The one that waits for that.
    waiting: Option<RoomEvent>,
}

/// What becomes of a notice.
enum Due {
    /// It is published now.
    Now(RoomEvent),
    /// It waits until then, and may be replaced by a later one meanwhile.
    At(Instant),
    /// It has taken the place of one that waits.
    Replaced,
}

impl Pace {
    fn add(&mut self, event: RoomEvent, now: Instant) -> Due {
        match self.next_at.filter(|next_at| *next_at > now) {
            None => {
                self.next_at = Some(now + USER_PAUSE);
                Due::Now(event)
            }
            Some(next_at) if self.waiting.replace(event).is_none() => Due::At(next_at),
            Some(_) => Due::Replaced,
        }
    }

    fn take(&mut self, now: Instant) -> Option<RoomEvent> {
        self.next_at = Some(now + USER_PAUSE);
        self.waiting.take()
    }
}

impl TypingNotices {
    /// Notices about rooms of `installation` go through `redis`.
    #[must_use]
    pub fn new(rooms: RoomLookup, redis: RedisClient, installation: Installation) -> Self {
        Self {
            rooms,
            redis,
            installation,
            users: Cache::builder().max_capacity(REMEMBERED).time_to_idle(USER_REMEMBERED).build(),
            sent: Cache::builder().max_capacity(REMEMBERED).time_to_live(ROOM_WINDOW).build(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        }
    }

    /// Announces to those who follow the room named `name` whether `user`, who must be a member, is typing.
    pub async fn announce(&self, user: &User, name: &str, is_typing: bool) -> Result<(), RoomError> {
        let room = self
            .rooms
            .find_or_forbid(name, user, Action::SetOwnState, "say that they type in a room that they are not in")
            .await?;
        let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            return Ok(());
        };
        let event = RoomEvent {
            room: room.id,
            entries: Vec::new(),
            typing: Some(TypingNotice {
                user: user.id,
                username: user.username.clone(),
                is_typing,
            }),
        };
        let pace = self.users.get_with(user.id, Arc::default);
        let due = pace.lock().add(event, Instant::now());
        match due {
            Due::Now(event) => self.publish(&event, permit),
            Due::At(time) => {
                let publisher = self.clone();
                tokio::spawn(async move {
                    sleep_until(time).await;
                    let event = pace.lock().take(Instant::now());
                    if let Some(event) = event {
                        publisher.publish(&event, permit);
                    }
                });
            }
            Due::Replaced => {}
        }
        Ok(())
    }

    /// Publishes a notice, unless its room has had too many.
    fn publish(&self, event: &RoomEvent, permit: OwnedSemaphorePermit) {
        let sent = self.sent.get_with(event.room, Arc::default);
        if sent.fetch_add(1, Ordering::Relaxed) >= ROOM_NOTICES {
            return;
        }
        let keys = Arc::clone(self.redis.key_space());
        let channel = keys.room_channel(self.installation.partition_of(event.room), event.room);
        let (mut redis, payload) = (self.redis.clone(), event.encode(&keys));
        tokio::spawn(async move {
            let _permit = permit;
            let published: redis::RedisResult<()> =
                redis::cmd("SPUBLISH").arg(channel).arg(payload).query_async(&mut redis).await;
            if let Err(error) = published {
                debug!(error = %error, "typing was not published: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(is_typing: bool) -> RoomEvent {
        RoomEvent {
            room: RoomId(1),
            entries: Vec::new(),
            typing: Some(TypingNotice {
                user: UserId(1),
                username: "ann".to_owned(),
                is_typing,
            }),
        }
    }

    #[test]
    fn the_latest_notice_of_a_second_waits_for_its_end() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let later = |ms| start + Duration::from_millis(ms);
        let is_typing = |event: RoomEvent| event.typing.map(|notice| notice.is_typing);
        assert!(matches!(pace.add(event(true), start), Due::Now(_)));
        assert!(matches!(pace.add(event(false), later(300)), Due::At(at) if at == later(1_000)));
        assert!(matches!(pace.add(event(true), later(400)), Due::Replaced));
        assert!(matches!(pace.add(event(false), later(500)), Due::Replaced));
        assert_eq!(pace.take(later(1_000)).and_then(is_typing), Some(false));
        assert!(matches!(pace.add(event(true), later(1_500)), Due::At(at) if at == later(2_000)));
        assert_eq!(pace.take(later(2_000)).and_then(is_typing), Some(true));
        assert!(matches!(pace.add(event(true), later(3_000)), Due::Now(_)));
    }
}
