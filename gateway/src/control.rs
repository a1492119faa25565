//! What gateways tell each other: sessions ended, members gone, rooms deleted.

use std::time::Duration;

use deadpool_redis::Pool;
use redis::AsyncCommands as _;
use serde::{Deserialize, Serialize};
use shared::domain::{RoomId, RoomName, SessionId, UserId};

/// The channel every gateway listens on.
pub const CONTROL_CHANNEL: &str = "roomcast:control";

/// How often telling is tried.
const ATTEMPTS: u32 = 3;

/// Pause after the first failure; it grows with each.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that all gateways must act on at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ControlEvent {
    /// A user logged out.
    SessionRevoked {
        /// The user.
        user: UserId,
        /// The session that ended.
        session: SessionId,
    },
    /// A user left a room.
    MemberRemoved {
        /// The room.
        room: RoomId,
        /// The user.
        user: UserId,
    },
    /// A room was deleted.
    RoomDeleted {
        /// The room.
        room: RoomId,
        /// Its name.
        name: RoomName,
    },
}

/// The other gateways could not be told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// No connection to Redis.
    #[error("no connection to Redis: {0}")]
    Pool(#[from] deadpool_redis::PoolError),
    /// Redis did not take the event.
    #[error("Redis did not take the event: {0}")]
    Redis(#[from] redis::RedisError),
}

/// Tells all gateways, this one included; tried a few times.
///
/// After an error the change itself stands, and the other gateways find out by themselves within [`crate::ears`]'s time.
pub async fn tell(pool: &Pool, event: &ControlEvent) -> Result<(), TellError> {
    let raw = serde_json::to_vec(event).expect("an event has string keys only and no failing parts");
    let mut attempt = 1;
    loop {
        match publish(pool, &raw).await {
            Err(_) if attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn publish(pool: &Pool, raw: &[u8]) -> Result<(), TellError> {
    let mut connection = pool.get().await?;
    let _receivers: i64 = connection.publish(CONTROL_CHANNEL, raw).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_readable_on_the_channel() {
        let event = ControlEvent::MemberRemoved {
            room: RoomId(1),
            user: UserId(2),
        };
        let raw = serde_json::to_string(&event).unwrap();
        assert_eq!(raw, r#"{"event":"member_removed","room":1,"user":2}"#);
        assert_eq!(serde_json::from_str::<ControlEvent>(&raw).unwrap(), event);
    }
}
