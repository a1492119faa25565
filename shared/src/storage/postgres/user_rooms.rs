//! The rooms of users.

use async_trait::async_trait;

use super::{Postgres, run_detached, within_deadline};
use crate::domain::{Notify, Position, RemovalCount, RoomId, RoomsVersion, Seq, UserId};
use crate::storage::positions::decode_seqs;
use crate::storage::sql::user_rooms::{self as sql, join_seqs, room_states, user_rooms};
use crate::storage::user_rooms::{activity_bound, decode_gone, decode_states, decode_versions, latest_first};
use crate::storage::{GoneRoom, OwnRooms, ReadMark, RoomState, StoreError, UserRooms};

const USER_ROOMS: &str = user_rooms!("json_agg", "json_build_array");

const ROOM_STATES: &str = room_states!("m.room_id = ANY ($2) ORDER BY m.room_id");

const JOIN_SEQS: &str = join_seqs!("m.room_id = ANY ($2)");

#[async_trait]
impl OwnRooms for Postgres {
    async fn user_rooms(&self, user: UserId) -> Result<UserRooms, StoreError> {
        let query = sqlx::query_as(USER_ROOMS).bind(user.0);
        Ok(UserRooms::from_row(within_deadline(query.fetch_optional(&self.pool)).await?)?)
    }

    async fn rooms_versions(&self, users: &[UserId]) -> Result<Vec<(UserId, RoomsVersion)>, StoreError> {
        let users: Vec<i64> = users.iter().map(|user| user.0).collect();
        let query = sqlx::query_as("SELECT id, rooms_version FROM users WHERE id = ANY ($1)").bind(users);
        Ok(decode_versions(within_deadline(query.fetch_all(&self.pool)).await?))
    }

    async fn room_states(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<RoomState>, StoreError> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let query = sqlx::query_as(ROOM_STATES).bind(user.0).bind(rooms);
        Ok(decode_states(within_deadline(query.fetch_all(&self.pool)).await?)?)
    }

    async fn join_seqs(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<(RoomId, Seq)>, StoreError> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let query = sqlx::query_as(JOIN_SEQS).bind(user.0).bind(rooms);
        Ok(decode_seqs(within_deadline(query.fetch_all(&self.pool)).await?))
    }

    async fn gone_rooms(
        &self,
        user: UserId,
        version: RoomsVersion,
        removals: RemovalCount,
    ) -> Result<Vec<GoneRoom>, StoreError> {
        let query = sqlx::query_as(sql::GONE_ROOMS).bind(user.0).bind(version.0).bind(removals.0);
        Ok(decode_gone(within_deadline(query.fetch_all(&self.pool)).await?))
    }

    async fn rooms_by_activity(
        &self,
        user: UserId,
        before: Option<(Position, RoomId)>,
        limit: u32,
    ) -> Result<Vec<RoomState>, StoreError> {
        let (position, room) = activity_bound(before);
        let query =
            sqlx::query_as(sql::ROOMS_BY_ACTIVITY).bind(user.0).bind(position).bind(room).bind(i64::from(limit));
        Ok(latest_first(decode_states(within_deadline(query.fetch_all(&self.pool)).await?)?))
    }

    async fn set_read(&self, room: RoomId, user: UserId, seq: Seq) -> Result<Option<ReadMark>, StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let moved = sqlx::query(sql::MOVE_READ_MARK).bind(room.0).bind(user.0).bind(seq.0).execute(&pool).await?;
            let mark = sqlx::query_as(sql::READ_MARK).bind(room.0).bind(user.0).fetch_optional(&pool).await?;
            Ok(mark.map(|mark| ReadMark::from_row(mark, moved.rows_affected() > 0)))
        })
        .await
    }

    async fn set_notify(&self, room: RoomId, user: UserId, notify: Notify) -> Result<bool, StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let set = sqlx::query(sql::SET_NOTIFY)
                .bind(room.0)
                .bind(user.0)
                .bind(notify.level.as_str())
                .bind(notify.until.map(|until| until.0));
            Ok(set.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }
}
