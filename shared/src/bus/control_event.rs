//! Control events, which every gateway acts on: revoked sessions, removed members, deleted rooms and messages, changed rooms of
//! users, claimed partitions.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{InvalidPublication, Purpose};
use crate::domain::{GatewayId, MembershipId, Partition, RoomId, RoomName, SessionId, StreamKey, UserId};

/// An event that every gateway must act on at once.
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
    /// A message of a room was deleted: nobody may keep its text.
    MessageDeleted {
        /// The room.
        room: RoomId,
    },
    /// A room was created with a name that another room had before.
    RoomReplaced {
        /// The name.
        name: RoomName,
    },
    /// A newer stream of the same client took the lease of this one.
    StreamReplaced {
        /// The older stream.
        stream: StreamKey,
    },
    /// A user opens one more stream than allowed: streams whose client is gone should end.
    StreamQuotaReached {
        /// The user.
        user: UserId,
    },
    /// The rooms of a user have changed: the set of them, or what one of them is for this user (their role, read mark or notify
    /// level). What has changed is in SQL.
    UserRoomsChanged {
        /// The user.
        user: UserId,
    },
    /// A worker has claimed some partitions. Its predecessor may not have published what it stored last. The name on the
    /// channel is that of earlier versions, which read it while an installation is upgraded.
    #[serde(rename = "partitions_taken")]
    PartitionsClaimed {
        /// The partitions.
        partitions: Vec<Partition>,
    },
}

/// A control event as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlMessage {
    /// What happened.
    #[serde(flatten)]
    pub event: ControlEvent,
    /// Who waits until every gateway has acted on it, if anybody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
}

/// Who waits for acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its number of the message.
    pub number: u64,
}

impl ControlMessage {
    /// The message on the channel: one JSON object, and its MAC.
    #[must_use]
    pub fn encode(&self, keys: &KeySpace) -> Vec<u8> {
        keys.mac().encode(Purpose::Control, self)
    }

    /// Decodes what [`ControlMessage::encode`] wrote.
    pub fn decode(raw: &[u8], keys: &KeySpace) -> Result<Self, InvalidPublication> {
        keys.mac().decode(Purpose::Control, raw)
    }
}

/// A gateway has acted on a message of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who has acted.
    pub by: GatewayId,
    /// Who waits for it. Numbers are unique within one gateway only: without this a copy that is sent to another one would
    /// count.
    pub to: GatewayId,
    /// The waiting gateway's number of the message.
    pub number: u64,
}

impl Acknowledgement {
    /// The acknowledgement on the channel: one JSON object, and its MAC.
    #[must_use]
    pub fn encode(&self, keys: &KeySpace) -> Vec<u8> {
        keys.mac().encode(Purpose::Acknowledgement, self)
    }

    /// Decodes what [`Acknowledgement::encode`] wrote.
    pub fn decode(raw: &[u8], keys: &KeySpace) -> Result<Self, InvalidPublication> {
        keys.mac().decode(Purpose::Acknowledgement, raw)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn events_are_readable_on_the_channel() {
        let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, "07".repeat(32).parse().unwrap());
        let event = ControlEvent::MemberRemoved {
            room: RoomId(1),
            user: UserId(2),
            membership: Some(MembershipId(3)),
        };
        let alone = ControlMessage { event, reply_to: None };
        let raw = alone.encode(&keys);
        let json = br#"{"event":"member_removed","room":1,"user":2,"membership":3}"#;
        assert!(raw.starts_with(json), "{}", String::from_utf8_lossy(&raw));
        assert_eq!(ControlMessage::decode(&raw, &keys).unwrap(), alone);
        assert!(ControlMessage::decode(json, &keys).is_err(), "anybody could say so");
        let reply_to = ReplyTo {
            gateway: GatewayId(Uuid::from_u128(5)),
            number: 7,
        };
        let answered = ControlMessage {
            reply_to: Some(reply_to),
            ..alone
        };
        assert_eq!(ControlMessage::decode(&answered.encode(&keys), &keys).unwrap(), answered);
    }

    #[test]
    fn a_change_of_a_users_rooms_is_readable_on_the_channel() {
        let event = ControlEvent::UserRoomsChanged { user: UserId(2) };
        let json = serde_json::to_string(&ControlMessage { event, reply_to: None }).unwrap();
        assert_eq!(json, r#"{"event":"user_rooms_changed","user":2}"#);
    }

    /// Gateways and workers of earlier versions know the event by this name.
    #[test]
    fn claimed_partitions_keep_their_name_on_the_channel() {
        let event = ControlEvent::PartitionsClaimed {
            partitions: vec![Partition(4)],
        };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"event":"partitions_taken","partitions":[4]}"#);
    }
}
