//! The service of typing: tells those who follow a room that a user is typing there.
//!
//! What is told goes nowhere but to streams that are open, and is dropped first: a user is told of once a second at most, and a room few times a
//! second, however many type in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use shared::bus::{RedisClient, RoomEvent, TypingNotice};
use shared::domain::{RoomId, UserId};
use shared::storage::{Installation, User};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::policy::Action;
use crate::rooms::{RoomError, RoomLookup};

/// How long nothing more of the same is told of a user.
const USER_PAUSE: Duration = Duration::from_secs(1);

/// Notices of one room that this gateway sends in a window, and how long that is.
const ROOM_NOTICES: u32 = 10;
const ROOM_WINDOW: Duration = Duration::from_secs(1);

/// Notices on their way to Redis. While it does not answer the others are dropped.
const IN_FLIGHT: usize = 256;

/// Users and rooms that are remembered for it.
const REMEMBERED: u64 = 100_000;

/// The service of typing.
pub struct TypingNotices {
    rooms: RoomLookup,
    redis: RedisClient,
    installation: Installation,
    /// Who was told of lately, to type or to have stopped.
    users: Cache<(UserId, bool), ()>,
    /// How many notices of a room were sent in its window.
    sent: Cache<RoomId, Arc<AtomicU32>>,
    /// Notices that Redis has not taken yet.
    in_flight: Arc<Semaphore>,
}

impl TypingNotices {
    /// Notices about rooms of `installation` go through `redis`.
    #[must_use]
    pub fn new(rooms: RoomLookup, redis: RedisClient, installation: Installation) -> Self {
        Self {
            rooms,
            redis,
            installation,
            users: Cache::builder().max_capacity(REMEMBERED).time_to_live(USER_PAUSE).build(),
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
        if !self.may_announce(room.id, user.id, is_typing) {
            return Ok(());
        }
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
        let keys = Arc::clone(self.redis.key_space());
        let channel = keys.room_channel(self.installation.partition_of(room.id), room.id);
        let (mut redis, payload) = (self.redis.clone(), event.encode(&keys));
        tokio::spawn(async move {
            let _permit = permit;
            let published: redis::RedisResult<()> =
                redis::cmd("SPUBLISH").arg(channel).arg(payload).query_async(&mut redis).await;
            if let Err(error) = published {
                debug!(error = %error, "typing was not published: {error}");
            }
        });
        Ok(())
    }

    fn may_announce(&self, room: RoomId, user: UserId, is_typing: bool) -> bool {
        // Who stops at once is not shown as typing for long.
        if !self.users.entry((user, is_typing)).or_insert(()).is_fresh() {
            return false;
        }
        let sent = self.sent.get_with(room, Arc::default);
        sent.fetch_add(1, Ordering::Relaxed) < ROOM_NOTICES
    }
}
