//! Room events: what the worker publishes on a room's channel after a commit.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{InvalidPublication, Purpose};
use crate::domain::{RoomId, StoredMessage};

/// Messages that were stored in one room by one commit, with ascending seqs.
///
/// An event is a hint: a receiver that misses one sees the gap by the next seq and reads history.
#[derive(Serialize, Deserialize)]
pub struct RoomEvent {
    /// The room, repeated from the channel's name so that a receiver notices a wrong route.
    pub room: RoomId,
    /// The messages.
    pub messages: Vec<StoredMessage>,
}

impl RoomEvent {
    /// The event on the channel: one JSON object, and its MAC.
    #[must_use]
    pub fn encode(&self, keys: &KeySpace) -> Vec<u8> {
        keys.mac().encode(Purpose::Room, self)
    }

    /// Decodes what [`RoomEvent::encode`] wrote.
    pub fn decode(raw: &[u8], keys: &KeySpace) -> Result<Self, InvalidPublication> {
        keys.mac().decode(Purpose::Room, raw)
    }
}
