//! What the worker publishes on a room's channel after a commit.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{InvalidPublication, Purpose};
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

impl RoomEvent {
    /// The event's form on the channel: one JSON object, and its MAC.
    #[must_use]
    pub fn encode(&self, keys: &KeySpace) -> Vec<u8> {
        keys.mac().encode(Purpose::Room, self)
    }

    /// Reads what [`RoomEvent::encode`] wrote.
    pub fn decode(raw: &[u8], keys: &KeySpace) -> Result<Self, InvalidPublication> {
        keys.mac().decode(Purpose::Room, raw)
    }
}
