//! Rooms and their members. What a user may not see is left out by the query itself, not by a check before it.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::FromRow;
use sqlx::error::DatabaseError;

use super::StoreError;
use crate::domain::{Epoch, MembershipId, RoomId, RoomName, Seq, Timestamp, UserId};

/// A room that exists now.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Room {
    /// Row id; never used again after the room is deleted.
    #[sqlx(try_from = "i64")]
    pub id: RoomId,
    /// Name.
    pub name: String,
    /// Who created it.
    #[sqlx(try_from = "i64")]
    pub owner_id: UserId,
    /// Visible to its members only.
    pub is_private: bool,
    /// Deleted rooms of the same name before this one.
    #[sqlx(try_from = "i64")]
    pub incarnation: Incarnation,
}

/// Number of deleted rooms of the same name.
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
    /// A public room that is in no database.
    #[must_use]
    #[cfg(any(test, feature = "testing"))]
    pub fn for_tests(id: RoomId, name: &str, owner: UserId) -> Self {
        Self {
            id,
            name: name.to_owned(),
            owner_id: owner,
            is_private: false,
            incarnation: Incarnation(0),
        }
    }

    /// Whether another room had this name before.
    #[must_use]
    pub fn has_predecessor(&self) -> bool {
        self.incarnation.0 > 0
    }

    /// The epoch of this room's cursors in an installation of epoch `installation`.
    ///
    /// A phone that slept through a deletion does not resume in a new room of the same name as if nothing had happened, nor
    /// with the cursor of another room: ids of rooms are never used again.
    #[must_use]
    pub fn epoch(&self, installation: Epoch) -> Epoch {
        installation.of_room(self.id)
    }

    /// The epoch of the cursors that earlier releases gave out, which were the same for all rooms of as many predecessors.
    /// An app that was away meanwhile comes back with one.
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
    /// Who creates it.
    pub owner: UserId,
    /// Visible to its members only.
    pub is_private: bool,
    /// If the last room of this name, or of one that differs in case alone, was deleted after this, its owner alone may
    /// create the next one. `None`: anybody may.
    pub reserved_since: Option<Timestamp>,
}

impl CreateRoom {
    /// A public room, whoever had the name before.
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

/// How somebody comes into a public room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinMode {
    /// By using its name. It is refused to who may mean another room: an earlier one of this name, which they were in, and
    /// which belonged to another owner or was private while this one is public.
    ByName,
    /// By saying so.
    Explicit,
}

/// What came of joining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The user is in the room.
    Member(MembershipId),
    /// There is no such room, or it is private and the user not in it.
    NotFound,
    /// See [`JoinMode::ByName`].
    Replaced,
}

/// Who is in which rooms, and by which membership.
pub type Memberships = HashMap<(RoomId, UserId), MembershipId>;

/// Reads rows of `members`: room, user and id.
pub(super) fn decode_memberships(rows: Vec<(i64, i64, i64)>) -> Memberships {
    rows.into_iter().map(|(room, user, id)| ((RoomId(room), UserId(user)), MembershipId(id))).collect()
}

/// Why a room was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateRoomError {
    /// A room of this name exists.
    #[error("the room exists")]
    Exists,
    /// The name is kept for the owner of a deleted room.
    #[error("the name belongs to the owner of a deleted room")]
    Reserved,
    /// The user owns as many rooms as may be.
    #[error("the user owns too many rooms")]
    TooMany,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreateRoomError {
    fn from(error: sqlx::Error) -> Self {
        if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) {
            return Self::Exists;
        }
        Self::Store(StoreError(error))
    }
}

/// What is kept about rooms and who is in them.
#[async_trait]
pub trait Rooms {
    /// Creates a room with its owner as the first member, if the owner has fewer than `most` rooms.
    async fn create_room_within(&self, most: u32, new: CreateRoom, now: Timestamp) -> Result<Room, CreateRoomError>;

    /// The same, however many rooms the owner has.
    async fn create_room(&self, new: CreateRoom, now: Timestamp) -> Result<Room, CreateRoomError> {
        self.create_room_within(u32::MAX, new, now).await
    }

    /// The room of this name that exists now. Whether a user may see it is not decided here.
    async fn room_by_name(&self, name: &RoomName) -> Result<Option<Room>, StoreError>;

    /// Names of the rooms `user` may see, sorted, from the one behind `after`, at most `limit`.
    async fn list_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Deletes a room; false if it was deleted before. Its messages are kept and no longer shown.
    async fn delete_room(&self, room: RoomId, now: Timestamp) -> Result<bool, StoreError>;

    /// The membership of `user` in `room`, if they are in it and the room exists now.
    async fn membership(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError>;

    /// The memberships of those of `pairs` in which the user is in the room and the room exists now.
    async fn memberships_among(&self, pairs: &[(RoomId, UserId)]) -> Result<Memberships, StoreError>;

    /// Makes `user` a member of `room` if that is public; whoever is a member stays it.
    async fn join_public(
        &self,
        room: RoomId,
        user: UserId,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<JoinOutcome, StoreError>;

    /// Takes `user` out of `room`; the membership that ended, if there was one.
    async fn leave(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError>;

    /// Usernames of a room's members, sorted, from the one behind `after`, at most `limit`; nobody if `user` may not see
    /// the room.
    async fn list_members(
        &self,
        room: RoomId,
        user: UserId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError>;

    /// The last seq of each of `rooms`; a room without messages has [`Seq::ZERO`].
    async fn heads(&self, rooms: &[RoomId]) -> Result<HashMap<RoomId, Seq>, StoreError>;
}
