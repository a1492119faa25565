//! Direct rooms: the one room of two users. Nobody else ever sees it, and neither of the two leaves it: who has enough of it hides it
//! until its next message.

use async_trait::async_trait;

use super::{Room, RoomState, StoreError};
use crate::domain::{RoomId, RoomName, Timestamp, UserId};

/// Direct rooms.
#[async_trait]
pub trait DirectRooms {
    /// The direct room of two different users, and whether this call has created it, under `name`. Of several calls at the same time,
    /// from either side, one creates it. For `creator` it is no longer hidden.
    async fn direct_room(
        &self,
        creator: UserId,
        other: UserId,
        name: RoomName,
        now: Timestamp,
    ) -> Result<(Room, bool), StoreError>;

    /// Hides the direct `room` for `user` until its next message; false if it is none, or they are not in it.
    async fn hide_direct(&self, room: RoomId, user: UserId) -> Result<bool, StoreError>;

    /// At most `limit` direct rooms of `user` that are not hidden, by the username of the other member, above `after`.
    async fn direct_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<RoomState>, StoreError>;

    /// With whom `users` share a direct room that neither hides, and that the other has opened or read in: at most `limit` of each, those with the
    /// latest entry first.
    async fn direct_partners(&self, users: &[UserId], limit: u32) -> Result<Vec<DirectPartner>, StoreError>;
}

/// The other member of a direct room of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectPartner {
    /// The user.
    pub user: UserId,
    /// The other member.
    pub other: UserId,
    /// Their name.
    pub username: String,
}

impl DirectPartner {
    /// Converts a row.
    pub(super) fn from_row((user, other, username): (i64, i64, String)) -> Self {
        Self {
            user: UserId(user),
            other: UserId(other),
            username,
        }
    }
}

/// The key of the direct room of two users: the same whoever of them asks.
pub(super) fn direct_key(one: UserId, other: UserId) -> String {
    format!("{}-{}", one.0.min(other.0), one.0.max(other.0))
}

/// Sorts states by the username of the other member.
pub(super) fn by_other_member(mut states: Vec<RoomState>) -> Vec<RoomState> {
    states.sort_unstable_by(|one, other| one.with.cmp(&other.with));
    states
}
