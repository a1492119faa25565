//! What all gateways must hear of: sessions ended, members gone, rooms deleted, partitions taken over.

use serde::{Deserialize, Serialize};

use crate::domain::{GatewayId, MembershipId, Partition, RoomId, RoomName, SessionId, StreamKey, UserId};

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
    /// A room was created whose name another one had before.
    RoomReplaced {
        /// The name.
        name: RoomName,
    },
    /// A newer stream of the same client has the lease of this one.
    StreamReplaced {
        /// The older stream.
        stream: StreamKey,
    },
    /// A user wants one more stream than may be open: those behind which there is nobody any more should make room.
    StreamQuotaReached {
        /// The user.
        user: UserId,
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
}

/// A control event as it is published. What a worker publishes is the event alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlMessage {
    /// What happened.
    #[serde(flatten)]
    pub event: ControlEvent,
    /// Who waits until all gateways have acted on it, if somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
}

/// Who waits for acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The gateway.
    pub gateway: GatewayId,
    /// What it calls the message.
    pub number: u64,
}

impl ControlMessage {
    /// The message's form on the channel: one JSON object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a message has string keys only and no failing parts")
    }

    /// Reads what [`ControlMessage::encode`] or [`ControlEvent::encode`] wrote.
    pub fn decode(raw: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(raw)
    }
}

/// A gateway has acted on a message of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who has acted.
    pub by: GatewayId,
    /// On what, as the other one calls it.
    pub number: u64,
}

impl Acknowledgement {
    /// Its form on the channel: one JSON object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an id and a number have a JSON form")
    }

    /// Reads what [`Acknowledgement::encode`] wrote.
    pub fn decode(raw: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(raw)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

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
        let decoded = |raw: &[u8]| ControlMessage::decode(raw).unwrap();
        let alone = ControlMessage { event, reply_to: None };
        assert_eq!(decoded(raw.as_bytes()), alone);
        let reply_to = ReplyTo {
            gateway: GatewayId(Uuid::from_u128(5)),
            number: 7,
        };
        let answered = ControlMessage {
            reply_to: Some(reply_to),
            ..alone
        };
        assert_eq!(decoded(&answered.encode()), answered);
    }
}
