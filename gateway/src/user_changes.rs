//! Tells the streams of a user, here and at the other gateways, that the user's rooms have changed.
//!
//! Nobody waits for it. What changed is in SQL already, and a stream that is not told finds it when it looks next: when it is opened, or when
//! something else changes.

use std::sync::Arc;

use redis::AsyncCommands as _;
use shared::bus::{ControlEvent, ControlMessage, RedisClient};
use shared::domain::UserId;
use tracing::debug;

use crate::live::UserTopics;

/// Tells streams of changes. Clones share the streams.
#[derive(Clone)]
pub struct UserChanges {
    users: UserTopics,
    redis: RedisClient,
}

impl UserChanges {
    /// Tells the streams of `users` here, and those elsewhere through `redis`.
    #[must_use]
    pub fn new(users: UserTopics, redis: RedisClient) -> Self {
        Self { users, redis }
    }

    /// The rooms of `user` have changed: the set of them, or what one of them is for this user.
    pub fn tell(&self, user: UserId) {
        self.users.note_rooms_changed(user);
        let mut redis = self.redis.clone();
        tokio::spawn(async move {
            let keys = Arc::clone(redis.key_space());
            let event = ControlEvent::UserRoomsChanged { user };
            let message = ControlMessage { event, reply_to: None };
            let published: redis::RedisResult<()> = redis.publish(keys.control_channel(), message.encode(&keys)).await;
            if let Err(error) = published {
                debug!(error = %error, "other gateways were not told that rooms of a user changed: {error}");
            }
        });
    }
}
