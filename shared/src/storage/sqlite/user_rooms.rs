//! The rooms of users.

use async_trait::async_trait;

use super::Sqlite;
use super::json_list::json_list;
use crate::domain::{Notify, Position, RemovalCount, RoomId, RoomsVersion, Seq, UserId};
use crate::storage::positions::decode_seqs;
use crate::storage::sql::user_rooms::{self as sql, join_seqs, room_states, user_rooms};
use crate::storage::user_rooms::{activity_bound, decode_gone, decode_states, decode_versions, latest_first};
use crate::storage::{GoneRoom, OwnRooms, ReadMark, RoomState, StoreError, UserRooms, run_detached};

const USER_ROOMS: &str = user_rooms!("json_group_array", "json_array");

const ROOM_STATES: &str = room_states!("m.room_id IN (SELECT j.value FROM json_each($2) j) ORDER BY m.room_id");

const JOIN_SEQS: &str = join_seqs!("m.room_id IN (SELECT j.value FROM json_each($2) j)");

#[async_trait]
impl OwnRooms for Sqlite {
    async fn user_rooms(&self, user: UserId) -> Result<UserRooms, StoreError> {
        let row = sqlx::query_as(USER_ROOMS).bind(user.0).fetch_optional(&self.read).await?;
        Ok(UserRooms::from_row(row)?)
    }

    async fn rooms_versions(&self, users: &[UserId]) -> Result<Vec<(UserId, RoomsVersion)>, StoreError> {
        let rows =
            sqlx::query_as("SELECT id, rooms_version FROM users WHERE id IN (SELECT j.value FROM json_each($1) j)")
                .bind(json_list(users)?)
                .fetch_all(&self.read)
                .await?;
        Ok(decode_versions(rows))
    }

    async fn room_states(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<RoomState>, StoreError> {
        let rows = sqlx::query_as(ROOM_STATES).bind(user.0).bind(json_list(rooms)?).fetch_all(&self.read).await?;
        Ok(decode_states(rows)?)
    }

    async fn join_seqs(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<(RoomId, Seq)>, StoreError> {
        let rows = sqlx::query_as(JOIN_SEQS).bind(user.0).bind(json_list(rooms)?).fetch_all(&self.read).await?;
        Ok(decode_seqs(rows))
    }

    async fn gone_rooms(
        &self,
        user: UserId,
        version: RoomsVersion,
        removals: RemovalCount,
    ) -> Result<Vec<GoneRoom>, StoreError> {
        let rows = sqlx::query_as(sql::GONE_ROOMS).bind(user.0).bind(version.0).bind(removals.0);
        Ok(decode_gone(rows.fetch_all(&self.read).await?))
    }

    async fn rooms_by_activity(
        &self,
        user: UserId,
        before: Option<(Position, RoomId)>,
        limit: u32,
    ) -> Result<Vec<RoomState>, StoreError> {
        let (position, room) = activity_bound(before);
        let rows = sqlx::query_as(sql::ROOMS_BY_ACTIVITY).bind(user.0).bind(position).bind(room).bind(limit);
        Ok(latest_first(decode_states(rows.fetch_all(&self.read).await?)?))
    }

    async fn set_read(&self, room: RoomId, user: UserId, seq: Seq) -> Result<Option<ReadMark>, StoreError> {
        let (write, read) = (self.write.clone(), self.read.clone());
        run_detached(async move {
            let moved = sqlx::query(sql::MOVE_READ_MARK).bind(room.0).bind(user.0).bind(seq.0).execute(&write).await?;
            let mark = sqlx::query_as(sql::READ_MARK).bind(room.0).bind(user.0).fetch_optional(&read).await?;
            Ok(mark.map(|mark| ReadMark::from_row(mark, moved.rows_affected() > 0)))
        })
        .await
    }

    async fn set_notify(&self, room: RoomId, user: UserId, notify: Notify) -> Result<bool, StoreError> {
        let pool = self.write.clone();
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
