//! Damage of history: messages that were there and are missing.

use shared::domain::{RoomId, Seq};
use tracing::error;

/// Reports to the operator that history lacks a message it had.
pub(super) fn report_damage(room: RoomId, seq: Seq) {
    error!(
        room.id = room.0,
        message.seq = seq.0,
        "message {} of room {} is missing in history: readers are told to load it anew",
        seq.0,
        room.0
    );
}
