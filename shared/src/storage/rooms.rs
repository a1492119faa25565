//! Rooms and their members. The query itself leaves out what the user may not see, so that no check can be forgotten or out of
//! date.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::FromRow;
use sqlx::error::DatabaseError;

use super::{RoomHead, StoreError};
use crate::domain::{Epoch, MembershipId, RoomId, RoomKind, RoomName, Timestamp, UserId};

/// A room that exists now.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Room {
    /// Row id. It is never used again after the room is deleted.
    #[sqlx(try_from = "i64")]
    pub id: RoomId,
    /// Name.
    pub name: String,
    /// The user who created it.
    #[sqlx(try_from = "i64")]
    pub owner_id: UserId,
    /// Whether it is visible to its members only.
    pub is_private: bool,
    /// How many rooms of the same name were deleted before.
    #[sqlx(try_from = "i64")]
    pub incarnation: Incarnation,
    /// What it is.
    #[sqlx(try_from = "String")]
    pub kind: RoomKind,
}

/// The number of earlier, deleted rooms of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation(u64);

impl From<i64> for Incarnation {
    fn from(count: i64) -> Self {
        Self(count.cast_unsigned())
    }
}

impl From<i64> for RoomId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl Room {
    /// A public room that is not in any database.
    #[must_use]
    #[cfg(any(test, feature = "testing"))]
    pub fn for_tests(id: RoomId, name: &str, owner: UserId) -> Self {
        Self {
            id,
            name: name.to_owned(),
            owner_id: owner,
            is_private: false,
            incarnation: Incarnation(0),
            kind: RoomKind::Room,
        }
    }

    /// Whether another room had this name before.
    #[must_use]
    pub fn has_predecessor(&self) -> bool {
        self.incarnation.0 > 0
    }

    /// The epoch of this room's cursors in an installation of epoch `installation`.
    ///
    /// A client that was offline while the room was deleted does not resume in a new room of the same name as if nothing had
    /// happened, nor with the cursor of another room, because ids of rooms are never used again.
    #[must_use]
    pub fn epoch(&self, installation: Epoch) -> Epoch {
        installation.of_room(self.id)
    }

    /// The epoch of the cursors that earlier releases issued, which was the same for all rooms with as many predecessors. A client
    /// that was offline since then comes back with such a cursor.
    #[must_use]
    pub fn former_epoch(&self, installation: Epoch) -> Epoch {
        Epoch(installation.0.wrapping_add(self.incarnation.0))
    }
}

/// A room to be created.
#[derive(Debug, Clone)]
pub struct CreateRoom {
    /// Its name.
    pub name: RoomName,
    /// The user who creates it.
    pub owner: UserId,
    /// Visible to its members only.
    pub is_private: bool,
    /// If the last room of this name, ignoring case, was deleted after this time, only its owner may create the next one.
    /// `None`: anybody may.
    pub reserved_since: Option<Timestamp>,
}

impl CreateRoom {
    /// A public room, even if the name is reserved for somebody else.
    #[must_use]
    pub fn public(name: RoomName, owner: UserId) -> Self {
        Self {
            name,
            owner,
            is_private: false,
            reserved_since: None,
        }
    }
}

/// How a user joins a public room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinMode {
    /// By using its name, as in posting to it. It is refused if the user may mean an earlier room of this name: one that they were
    /// a member of, and that had another owner, or was private while this one is public.
    ByName,
    /// By a call to join, which is never refused for that reason.
    Explicit,
}

/// The result of joining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The user is a member of the room.
    Member(MembershipId),
    /// The room does not exist, or it is private and the user is not a member.
    NotFound,
    /// The user may mean an earlier room of this name: see [`JoinMode::ByName`].
    Replaced,
}

/// The membership of each user in each room.
pub type Memberships = HashMap<(RoomId, UserId), MembershipId>;

/// Converts rows of `members`: room, user and id.
pub(super) fn decode_memberships(rows: Vec<(i64, i64, i64)>) -> Memberships {
    rows.into_iter().map(|(room, user, id)| ((RoomId(room), UserId(user)), MembershipId(id))).collect()
}

/// Why a room was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateRoomError {
    /// A room of this name exists.
    #[error("the room exists")]
    Exists,
    /// The name is reserved for the owner of a deleted room.
    #[error("the name belongs to the owner of a deleted room")]
    Reserved,
    /// The user owns as many rooms as are allowed.
    #[error("the user owns too many rooms")]
    TooMany,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreateRoomError {
    fn from(error: sqlx::Error) -> Self {
        // Of the name, or of its incarnation, which a deletion at the same moment changes.
        let is_of_name = |error: &dyn DatabaseError| error.is_unique_violation() && error.message().contains("rooms");
        if error.as_database_error().is_some_and(is_of_name) {
            return Self::Exists;
        }
        Self::Store(StoreError(error))
    }
}

/// Rooms and their members.
#[async_trait]
pub trait Rooms {
    /// Creates a room with its owner as the first member, if the owner has fewer than `most` rooms, not counting direct ones.
    async fn create_room_within(&self, most: u32, new: CreateRoom, now: Timestamp) -> Result<Room, CreateRoomError>;

    /// Creates a room, however many rooms the owner has.
    async fn create_room(&self, new: CreateRoom, now: Timestamp) -> Result<Room, CreateRoomError> {
        self.create_room_within(u32::MAX, new, now).await
    }

    /// The room of this name that exists now. It does not check whether a user may see it.
    async fn room_by_name(&self, name: &RoomName) -> Result<Option<Room>, StoreError>;

    /// The names of at most `limit` rooms that `user` may see, above `after`, sorted.
    async fn list_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Deletes a room; false if it was deleted before. Its messages are kept, and nobody can read them.
    async fn delete_room(&self, room: RoomId, now: Timestamp) -> Result<bool, StoreError>;

    /// The membership of `user` in `room`, if they are a member and the room exists now.
    async fn membership(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError>;

    /// The memberships of those `pairs` whose user is a member of the room and whose room exists now.
    async fn memberships_among(&self, pairs: &[(RoomId, UserId)]) -> Result<Memberships, StoreError>;

    /// Makes `user` a member of `room` if the room is public. A member keeps their membership.
    async fn join_public(
        &self,
        room: RoomId,
        user: UserId,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<JoinOutcome, StoreError>;

    /// Ends the membership of `user` in `room`, and returns it if there was one. A direct room is hidden instead, and never left: see
    /// [`DirectRooms::hide_direct`](super::DirectRooms::hide_direct).
    async fn leave(&self, room: RoomId, user: UserId, now: Timestamp) -> Result<Option<MembershipId>, StoreError>;

    /// The usernames of at most `limit` members of `room` above `after`, sorted; none if `user` may not see the room.
    async fn list_members(
        &self,
        room: RoomId,
        user: UserId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError>;

    /// The head of each of `rooms`, all zero for a room whose log is empty.
    async fn heads(&self, rooms: &[RoomId]) -> Result<HashMap<RoomId, RoomHead>, StoreError>;
}
