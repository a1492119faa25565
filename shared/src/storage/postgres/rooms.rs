//! Rooms and their members.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{Postgres, finish, in_time};
use crate::domain::{MembershipId, RoomId, RoomName, Seq, Timestamp, UserId};
use crate::storage::rooms::read_memberships;
use crate::storage::{CreateRoomError, Memberships, Room, Rooms, StoreError};

#[async_trait]
impl Rooms for Postgres {
    async fn create_room(
        &self,
        name: RoomName,
        owner: UserId,
        is_private: bool,
        now: Timestamp,
    ) -> Result<Room, CreateRoomError> {
        let pool = self.pool.clone();
        finish(async move {
            let mut tx = pool.begin().await?;
            // A deletion that is committed while this counts is missed; then rooms_incarnation refuses the room.
            let room: Room = sqlx::query_as(
                "INSERT INTO rooms (name, owner_id, is_private, created_on, incarnation)
                 SELECT $1, $2, $3, $4, COUNT(*) FROM rooms WHERE name = $1 AND deleted_on IS NOT NULL
                 RETURNING id, name, owner_id, is_private, incarnation",
            )
            .bind(name.as_str())
            .bind(owner.0)
            .bind(is_private)
            .bind(now.0)
            .fetch_one(&mut *tx)
            .await?;
            sqlx::query("INSERT INTO members (room_id, user_id, joined_on, id) VALUES ($1, $2, $3, $4)")
                .bind(room.id.0)
                .bind(owner.0)
                .bind(now.0)
                .bind(MembershipId::fresh().0)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn room_by_name(&self, name: &RoomName) -> Result<Option<Room>, StoreError> {
        let query = sqlx::query_as(
            "SELECT id, name, owner_id, is_private, incarnation FROM rooms WHERE name = $1 AND deleted_on IS NULL",
        )
        .bind(name.as_str());
        Ok(in_time(query.fetch_optional(&self.pool)).await?)
    }

    async fn list_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT r.name FROM rooms r
             WHERE r.deleted_on IS NULL AND r.name > $1
               AND (NOT r.is_private OR EXISTS (SELECT 1 FROM members m WHERE m.room_id = r.id AND m.user_id = $2))
             ORDER BY r.name LIMIT $3",
        )
        .bind(after)
        .bind(user.0)
        .bind(i64::from(limit));
        Ok(in_time(query.fetch_all(&self.pool)).await?)
    }

    async fn delete_room(&self, room: RoomId, now: Timestamp) -> Result<bool, StoreError> {
        let pool = self.pool.clone();
        finish(async move {
            let done = sqlx::query("UPDATE rooms SET deleted_on = $1 WHERE id = $2 AND deleted_on IS NULL")
                .bind(now.0)
                .bind(room.0)
                .execute(&pool)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn membership(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT m.id FROM members m JOIN rooms r ON r.id = m.room_id
             WHERE m.room_id = $1 AND m.user_id = $2 AND r.deleted_on IS NULL",
        )
        .bind(room.0)
        .bind(user.0);
        let id: Option<i64> = in_time(query.fetch_optional(&self.pool)).await?;
        Ok(id.map(MembershipId))
    }

    async fn memberships_among(&self, pairs: &[(RoomId, UserId)]) -> Result<Memberships, StoreError> {
        let (rooms, users): (Vec<i64>, Vec<i64>) = pairs.iter().map(|(room, user)| (room.0, user.0)).unzip();
        let query = sqlx::query_as(
            "SELECT m.room_id, m.user_id, m.id
             FROM UNNEST($1::bigint[], $2::bigint[]) AS pair (room_id, user_id)
             JOIN members m ON m.room_id = pair.room_id AND m.user_id = pair.user_id
             JOIN rooms r ON r.id = m.room_id
             WHERE r.deleted_on IS NULL",
        )
        .bind(rooms)
        .bind(users);
        Ok(read_memberships(in_time(query.fetch_all(&self.pool)).await?))
    }

    async fn join_public(
        &self,
        room: RoomId,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<MembershipId>, StoreError> {
        let pool = self.pool.clone();
        let joined = finish(async move {
            // Who is in it already keeps the membership there is.
            let joined: Vec<i64> = sqlx::query_scalar(
                "INSERT INTO members (room_id, user_id, joined_on, id)
                 SELECT id, $1, $2, $3 FROM rooms WHERE id = $4 AND deleted_on IS NULL AND NOT is_private
                 ON CONFLICT (room_id, user_id) DO UPDATE SET joined_on = members.joined_on
                 RETURNING id",
            )
            .bind(user.0)
            .bind(now.0)
            .bind(MembershipId::fresh().0)
            .bind(room.0)
            .fetch_all(&pool)
            .await?;
            Ok::<_, StoreError>(joined)
        });
        match joined.await?.first() {
            Some(id) => Ok(Some(MembershipId(*id))),
            None => self.membership(room, user).await,
        }
    }

    async fn leave(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError> {
        let pool = self.pool.clone();
        finish(async move {
            let ended: Vec<i64> =
                sqlx::query_scalar("DELETE FROM members WHERE room_id = $1 AND user_id = $2 RETURNING id")
                    .bind(room.0)
                    .bind(user.0)
                    .fetch_all(&pool)
                    .await?;
            Ok(ended.first().copied().map(MembershipId))
        })
        .await
    }

    async fn list_members(
        &self,
        room: RoomId,
        user: UserId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT u.username
             FROM rooms r JOIN members m ON m.room_id = r.id JOIN users u ON u.id = m.user_id
             WHERE r.id = $1 AND r.deleted_on IS NULL AND u.username > $3
               AND (NOT r.is_private OR EXISTS (SELECT 1 FROM members o WHERE o.room_id = r.id AND o.user_id = $2))
             ORDER BY u.username LIMIT $4",
        )
        .bind(room.0)
        .bind(user.0)
        .bind(after)
        .bind(i64::from(limit));
        Ok(in_time(query.fetch_all(&self.pool)).await?)
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<HashMap<RoomId, Seq>, StoreError> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let query = sqlx::query_as(
            "SELECT asked.id, COALESCE(h.seq, 0)
             FROM UNNEST($1::bigint[]) AS asked (id) LEFT JOIN room_heads h ON h.room_id = asked.id",
        )
        .bind(rooms);
        let rows: Vec<(i64, i64)> = in_time(query.fetch_all(&self.pool)).await?;
        Ok(rows.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect())
    }
}
