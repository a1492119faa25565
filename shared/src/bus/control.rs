//! What all gateways must hear of: sessions ended, members gone, rooms deleted, partitions taken over.

use serde::{Deserialize, Serialize};

use crate::domain::{MembershipId, Partition, RoomId, RoomName, SessionId, UserId};

/// The channel every gateway listens on.
pub const CONTROL_CHANNEL: &str = "roomcast:control";

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
        /// The membership that ended; `None` if there was none.
        membership: Option<MembershipId>,
    },
    /// A room was deleted.
    RoomDeleted {
        /// The room.
        room: RoomId,
        /// Its name.
        name: RoomName,
    },
    /// A worker took over some partitions. What its predecessor stored last may not have been announced.
    PartitionsTaken {
        /// The partitions.
        partitions: Vec<Partition>,
    },
}

impl ControlEvent {
    /// The event's form on the channel: one JSON object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has string keys only and no failing parts")
    }

    /// Reads what [`ControlEvent::encode`] wrote.
    pub fn decode(raw: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_readable_on_the_channel() {
        let event = ControlEvent::MemberRemoved {
            room: RoomId(1),
            user: UserId(2),
            membership: Some(MembershipId(3)),
        };
        let raw = String::from_utf8(event.encode()).unwrap();
        assert_eq!(raw, r#"{"event":"member_removed","room":1,"user":2,"membership":3}"#);
        assert_eq!(ControlEvent::decode(raw.as_bytes()).unwrap(), event);
    }
}
