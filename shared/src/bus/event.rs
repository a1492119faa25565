//! What the worker publishes on a room's channel after a commit.

use serde::{Deserialize, Serialize};

use crate::domain::{RoomId, StoredMessage};

/// Messages that were stored in one room by one commit, with ascending seqs.
///
/// It is a hint: a receiver that misses one learns of the gap from the next seq and reads history.
#[derive(Serialize, Deserialize)]
pub struct RoomEvent {
    /// The room, repeated from the channel's name so that a wrong route is noticed.
    pub room: RoomId,
    /// What was stored.
    pub messages: Vec<StoredMessage>,
}

/// A publication that is not a room event.
#[derive(Debug, thiserror::Error)]
#[error("not a room event: {0}")]
pub struct InvalidEvent(#[from] serde_json::Error);

impl RoomEvent {
    /// The event's form on the channel: one JSON object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has string keys only and no failing parts")
    }

    /// True if every message is there with all that apps see of it. A worker of an earlier release leaves the sender's
    /// public id out; the event then tells no more than up to where the room was stored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.messages.iter().all(|message| !message.public_id.is_empty())
    }

    /// Reads what [`RoomEvent::encode`] wrote.
    pub fn decode(raw: &[u8]) -> Result<Self, InvalidEvent> {
        Ok(serde_json::from_slice(raw)?)
    }
}
