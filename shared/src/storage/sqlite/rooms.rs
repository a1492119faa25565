//! Rooms and their members.

use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::json;

use super::Sqlite;
use crate::domain::{MembershipId, RoomId, RoomName, Seq, Timestamp, UserId};
use crate::storage::rooms::decode_memberships;
use crate::storage::{
    CreateRoom, CreateRoomError, JoinMode, JoinOutcome, Memberships, Room, Rooms, StoreError, run_detached,
};

/// Names of rooms that a user may see: a range of the public ones and a range of their own private ones, merged.
pub const LIST_ROOMS: &str = "
    SELECT name FROM (
        SELECT name FROM (SELECT name FROM rooms WHERE deleted_on IS NULL AND NOT is_private AND name > ?1
                          ORDER BY name LIMIT +?3) AS of_all
        UNION ALL
        SELECT name FROM (SELECT private_name AS name FROM members WHERE user_id = ?2 AND private_name > ?1
                          ORDER BY private_name LIMIT +?3) AS of_user
    ) AS visible ORDER BY name LIMIT +?3";

/// Names of a room's members, a range of an index; whether the user may see the room is looked up once.
pub const LIST_MEMBERS: &str = "
    SELECT m.username FROM members m
    WHERE m.room_id = ?1 AND m.username > ?3
      AND EXISTS (SELECT 1 FROM rooms r WHERE r.id = ?1 AND r.deleted_on IS NULL
                  AND (NOT r.is_private OR EXISTS (SELECT 1 FROM members o WHERE o.room_id = r.id AND o.user_id = ?2)))
    ORDER BY m.username LIMIT +?4";

#[async_trait]
impl Rooms for Sqlite {
    async fn create_room_within(&self, most: u32, new: CreateRoom, now: Timestamp) -> Result<Room, CreateRoomError> {
        self.transaction(move |tx| {
            Box::pin(async move {
                let owned: i64 =
                    sqlx::query_scalar("SELECT COUNT(*) FROM rooms WHERE owner_id = ? AND deleted_on IS NULL")
                        .bind(new.owner.0)
                        .fetch_one(&mut *tx)
                        .await?;
                if owned >= i64::from(most) {
                    return Err(CreateRoomError::TooMany);
                }
                let created: Vec<Room> = sqlx::query_as(
                    "INSERT INTO rooms (name, owner_id, is_private, created_on, incarnation)
                     SELECT ?1, ?2, ?3, ?4, COUNT(*) FROM rooms WHERE name = ?1 AND deleted_on IS NOT NULL
                     HAVING NOT EXISTS (SELECT 1 FROM rooms former
                                        WHERE lower(former.name) = ?6 AND former.deleted_on > ?5 AND former.owner_id <> ?2
                                          AND former.incarnation = (SELECT MAX(other.incarnation) FROM rooms other
                                                                    WHERE other.name = former.name))
                     RETURNING id, name, owner_id, is_private, incarnation",
                )
                .bind(new.name.as_str())
                .bind(new.owner.0)
                .bind(new.is_private)
                .bind(now.0)
                .bind(new.reserved_since.map_or(i64::MAX, |since| since.0))
                .bind(new.name.as_str().to_ascii_lowercase())
                .fetch_all(&mut *tx)
                .await?;
                let room = created.into_iter().next().ok_or(CreateRoomError::Reserved)?;
                sqlx::query("INSERT INTO members (room_id, user_id, joined_on, id) VALUES (?, ?, ?, ?)")
                    .bind(room.id.0)
                    .bind(new.owner.0)
                    .bind(now.0)
                    .bind(MembershipId::fresh().0)
                    .execute(&mut *tx)
                    .await?;
                Ok(room)
            })
        })
        .await
    }

    async fn room_by_name(&self, name: &RoomName) -> Result<Option<Room>, StoreError> {
        let room = sqlx::query_as(
            "SELECT id, name, owner_id, is_private, incarnation FROM rooms WHERE name = ? AND deleted_on IS NULL",
        )
        .bind(name.as_str())
        .fetch_optional(&self.read)
        .await?;
        Ok(room)
    }

    async fn list_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let names = sqlx::query_scalar(LIST_ROOMS).bind(after).bind(user.0).bind(limit).fetch_all(&self.read).await?;
        Ok(names)
    }

    async fn delete_room(&self, room: RoomId, now: Timestamp) -> Result<bool, StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            let done = sqlx::query("UPDATE rooms SET deleted_on = ? WHERE id = ? AND deleted_on IS NULL")
                .bind(now.0)
                .bind(room.0)
                .execute(&pool)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn membership(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError> {
        let id: Option<i64> = sqlx::query_scalar(
            "SELECT m.id FROM members m JOIN rooms r ON r.id = m.room_id
             WHERE m.room_id = ? AND m.user_id = ? AND r.deleted_on IS NULL",
        )
        .bind(room.0)
        .bind(user.0)
        .fetch_optional(&self.read)
        .await?;
        Ok(id.map(MembershipId))
    }

    async fn memberships_among(&self, pairs: &[(RoomId, UserId)]) -> Result<Memberships, StoreError> {
        let found: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT m.room_id, m.user_id, m.id
             FROM json_each(?) j
             JOIN members m ON m.room_id = j.value ->> 0 AND m.user_id = j.value ->> 1
             JOIN rooms r ON r.id = m.room_id
             WHERE r.deleted_on IS NULL",
        )
        .bind(json!(pairs).to_string())
        .fetch_all(&self.read)
        .await?;
        Ok(decode_memberships(found))
    }

    async fn join_public(
        &self,
        room: RoomId,
        user: UserId,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<JoinOutcome, StoreError> {
        let pool = self.write.clone();
        let joined = run_detached(async move {
            // Who is in it already keeps the membership there is.
            sqlx::query_scalar(
                "INSERT INTO members (room_id, user_id, joined_on, id)
                 SELECT id, ?1, ?2, ?3 FROM rooms WHERE id = ?4 AND deleted_on IS NULL AND NOT is_private
                       AND (?5 OR NOT COALESCE((SELECT e.owner_id <> rooms.owner_id OR (e.is_private AND NOT rooms.is_private)
                                                 FROM rooms e JOIN members m ON m.room_id = e.id AND m.user_id = ?1
                                                 WHERE e.name = rooms.name AND e.incarnation < rooms.incarnation
                                                 ORDER BY e.incarnation DESC LIMIT 1), FALSE))
                 ON CONFLICT (room_id, user_id) DO UPDATE SET joined_on = members.joined_on
                 RETURNING id",
            )
            .bind(user.0)
            .bind(now.0)
            .bind(MembershipId::fresh().0)
            .bind(room.0)
            .bind(mode == JoinMode::Explicit)
            .fetch_all(&pool)
            .await
            .map_err(StoreError)
        });
        if let Some(id) = joined.await?.first() {
            return Ok(JoinOutcome::Member(MembershipId(*id)));
        }
        if let Some(membership) = self.membership(room, user).await? {
            return Ok(JoinOutcome::Member(membership));
        }
        Ok(if self.is_open(room).await? {
            JoinOutcome::Replaced
        } else {
            JoinOutcome::NotFound
        })
    }

    async fn leave(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError> {
        let pool = self.write.clone();
        let ended: Vec<i64> = run_detached(async move {
            sqlx::query_scalar("DELETE FROM members WHERE room_id = ? AND user_id = ? RETURNING id")
                .bind(room.0)
                .bind(user.0)
                .fetch_all(&pool)
                .await
                .map_err(StoreError)
        })
        .await?;
        Ok(ended.first().copied().map(MembershipId))
    }

    async fn list_members(
        &self,
        room: RoomId,
        user: UserId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let names = sqlx::query_scalar(LIST_MEMBERS)
            .bind(room.0)
            .bind(user.0)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.read)
            .await?;
        Ok(names)
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<HashMap<RoomId, Seq>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT j.value, COALESCE(h.seq, 0) FROM json_each(?) j LEFT JOIN room_heads h ON h.room_id = j.value",
        )
        .bind(json!(rooms).to_string())
        .fetch_all(&self.read)
        .await?;
        Ok(rows.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect())
    }
}

impl Sqlite {
    /// Whether the room exists now and is public.
    async fn is_open(&self, room: RoomId) -> Result<bool, StoreError> {
        let open = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM rooms WHERE id = ? AND deleted_on IS NULL AND NOT is_private)",
        )
        .bind(room.0)
        .fetch_one(&self.read)
        .await?;
        Ok(open)
    }
}
