//! Rooms and their members. What a user may not see is left out by the query itself, not by a check before it.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use sqlx::FromRow;
use sqlx::error::DatabaseError;

use super::{Store, StoreError, uninterrupted};
use crate::domain::{Epoch, RoomId, RoomName, Seq, Timestamp, UserId};

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

    /// The epoch of this room's cursors in an installation of epoch `installation`.
    ///
    /// Without the incarnation a phone that slept through a deletion would resume in a new room of the same name as if
    /// nothing had happened.
    #[must_use]
    pub fn epoch(&self, installation: Epoch) -> Epoch {
        Epoch(installation.0.wrapping_add(self.incarnation.0))
    }
}

/// Why a room was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateRoomError {
    /// A room of this name exists.
    #[error("the room exists")]
    Exists,
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

impl Store {
    /// Creates a room with its owner as the first member.
    pub async fn create_room(
        &self,
        name: RoomName,
        owner: UserId,
        is_private: bool,
        now: Timestamp,
    ) -> Result<Room, CreateRoomError> {
        let pool = self.write.clone();
        uninterrupted(async move {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
            let room: Room = sqlx::query_as(
                "INSERT INTO rooms (name, owner_id, is_private, created_on, incarnation)
                 SELECT ?1, ?2, ?3, ?4, COUNT(*) FROM rooms WHERE name = ?1 AND deleted_on IS NOT NULL
                 RETURNING id, name, owner_id, is_private, incarnation",
            )
            .bind(name.as_str())
            .bind(owner.0)
            .bind(is_private)
            .bind(now.0)
            .fetch_one(&mut *tx)
            .await?;
            sqlx::query("INSERT INTO members (room_id, user_id, joined_on) VALUES (?, ?, ?)")
                .bind(room.id.0)
                .bind(owner.0)
                .bind(now.0)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(room)
        })
        .await
    }

    /// The room of this name that exists now. Whether a user may see it is not decided here.
    pub async fn room_by_name(&self, name: &RoomName) -> Result<Option<Room>, StoreError> {
        let room = sqlx::query_as(
            "SELECT id, name, owner_id, is_private, incarnation FROM rooms WHERE name = ? AND deleted_on IS NULL",
        )
        .bind(name.as_str())
        .fetch_optional(&self.read)
        .await?;
        Ok(room)
    }

    /// Names of the rooms `user` may see, sorted, from the one behind `after`, at most `limit`.
    pub async fn list_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let names = sqlx::query_scalar(
            "SELECT r.name FROM rooms r
             WHERE r.deleted_on IS NULL AND r.name > ?
               AND (NOT r.is_private OR EXISTS (SELECT 1 FROM members m WHERE m.room_id = r.id AND m.user_id = ?))
             ORDER BY r.name LIMIT ?",
        )
        .bind(after)
        .bind(user.0)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        Ok(names)
    }

    /// Deletes a room; false if it was deleted before. Its messages are kept and no longer shown.
    pub async fn delete_room(&self, room: RoomId, now: Timestamp) -> Result<bool, StoreError> {
        let pool = self.write.clone();
        uninterrupted(async move {
            let done = sqlx::query("UPDATE rooms SET deleted_on = ? WHERE id = ? AND deleted_on IS NULL")
                .bind(now.0)
                .bind(room.0)
                .execute(&pool)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    /// True if `user` is in `room`, and the room exists now.
    pub async fn is_member(&self, room: RoomId, user: UserId) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM members m JOIN rooms r ON r.id = m.room_id
                            WHERE m.room_id = ? AND m.user_id = ? AND r.deleted_on IS NULL)",
        )
        .bind(room.0)
        .bind(user.0)
        .fetch_one(&self.read)
        .await?;
        Ok(found)
    }

    /// Those of `pairs` in which the user is in the room and the room exists now.
    pub async fn members_among(&self, pairs: &[(RoomId, UserId)]) -> Result<HashSet<(RoomId, UserId)>, StoreError> {
        let found: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT m.room_id, m.user_id
             FROM json_each(?) j
             JOIN members m ON m.room_id = j.value ->> 0 AND m.user_id = j.value ->> 1
             JOIN rooms r ON r.id = m.room_id
             WHERE r.deleted_on IS NULL",
        )
        .bind(json!(pairs).to_string())
        .fetch_all(&self.read)
        .await?;
        Ok(found.into_iter().map(|(room, user)| (RoomId(room), UserId(user))).collect())
    }

    /// Makes `user` a member of `room` if that is public; true if the user is a member now.
    pub async fn join_public(&self, room: RoomId, user: UserId, now: Timestamp) -> Result<bool, StoreError> {
        let pool = self.write.clone();
        let joined = uninterrupted(async move {
            sqlx::query(
                "INSERT INTO members (room_id, user_id, joined_on)
                 SELECT id, ?, ? FROM rooms WHERE id = ? AND deleted_on IS NULL AND NOT is_private
                 ON CONFLICT (room_id, user_id) DO NOTHING",
            )
            .bind(user.0)
            .bind(now.0)
            .bind(room.0)
            .execute(&pool)
            .await
            .map_err(StoreError)
        });
        if joined.await?.rows_affected() > 0 {
            return Ok(true);
        }
        self.is_member(room, user).await
    }

    /// Takes `user` out of `room`; no difference if they were not in it.
    pub async fn leave(&self, room: RoomId, user: UserId) -> Result<(), StoreError> {
        let pool = self.write.clone();
        uninterrupted(async move {
            sqlx::query("DELETE FROM members WHERE room_id = ? AND user_id = ?")
                .bind(room.0)
                .bind(user.0)
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }

    /// Usernames of a room's members, sorted, from the one behind `after`, at most `limit`.
    pub async fn list_members(&self, room: RoomId, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let names = sqlx::query_scalar(
            "SELECT u.username FROM members m JOIN users u ON u.id = m.user_id
             WHERE m.room_id = ? AND u.username > ? ORDER BY u.username LIMIT ?",
        )
        .bind(room.0)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        Ok(names)
    }

    /// The last seq of each of `rooms`; a room without messages has [`Seq::ZERO`].
    pub async fn heads(&self, rooms: &[RoomId]) -> Result<HashMap<RoomId, Seq>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT j.value, COALESCE(h.seq, 0) FROM json_each(?) j LEFT JOIN room_heads h ON h.room_id = j.value",
        )
        .bind(json!(rooms).to_string())
        .fetch_all(&self.read)
        .await?;
        Ok(rows.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect())
    }
}
