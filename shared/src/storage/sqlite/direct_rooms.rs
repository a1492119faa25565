//! Direct rooms.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::Sqlite;
use super::json_list::json_list;
use crate::domain::{MembershipId, RoomId, RoomName, Timestamp, UserId};
use crate::storage::direct_rooms::{by_other_member, direct_key};
use crate::storage::outbox::{created_detail, joined_detail};
use crate::storage::sql::user_rooms::{self as sql, direct_partners};
use crate::storage::sql::{outbox, rooms};
use crate::storage::user_rooms::decode_states;
use crate::storage::{DirectPartner, DirectRooms, Room, RoomState, StoreError, run_detached};

const DIRECT_PARTNERS: &str = direct_partners!("SELECT j.value FROM json_each($1) j");

#[async_trait]
impl DirectRooms for Sqlite {
    async fn direct_room(
        &self,
        creator: UserId,
        other: UserId,
        name: RoomName,
        now: Timestamp,
    ) -> Result<(Room, bool), StoreError> {
        self.transaction(move |tx| {
            Box::pin(async move {
                let key = direct_key(creator, other);
                let created: Vec<Room> = sqlx::query_as(sql::INSERT_DIRECT_ROOM)
                    .bind(name.as_str())
                    .bind(creator.0)
                    .bind(now.0)
                    .bind(&key)
                    .fetch_all(&mut *tx)
                    .await?;
                if let Some(room) = created.into_iter().next() {
                    add_members(tx, &room, [creator, other], now).await?;
                    return Ok((room, true));
                }
                let room: Room = sqlx::query_as(sql::DIRECT_ROOM_BY_KEY).bind(&key).fetch_one(&mut *tx).await?;
                sqlx::query(sql::SHOW_DIRECT_ROOM).bind(room.id.0).bind(creator.0).execute(tx).await?;
                Ok((room, false))
            })
        })
        .await
    }

    async fn hide_direct(&self, room: RoomId, user: UserId) -> Result<bool, StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            let hidden = sqlx::query(sql::HIDE_DIRECT_ROOM).bind(room.0).bind(user.0).execute(&pool).await?;
            Ok(hidden.rows_affected() > 0)
        })
        .await
    }

    async fn direct_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<RoomState>, StoreError> {
        let rows = sqlx::query_as(sql::DIRECT_ROOMS).bind(user.0).bind(after).bind(limit);
        Ok(by_other_member(decode_states(rows.fetch_all(&self.read).await?)?))
    }

    async fn direct_partners(&self, users: &[UserId], limit: u32) -> Result<Vec<DirectPartner>, StoreError> {
        let rows = sqlx::query_as(DIRECT_PARTNERS).bind(json_list(users)?).bind(limit);
        Ok(rows.fetch_all(&self.read).await?.into_iter().map(DirectPartner::from_row).collect())
    }
}

/// Makes two users the members of a new direct room, which the first one has created, and tells its log.
async fn add_members(
    tx: &mut SqliteConnection,
    room: &Room,
    [creator, other]: [UserId; 2],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    for user in [creator, other] {
        sqlx::query(rooms::INSERT_MEMBER)
            .bind(room.id.0)
            .bind(user.0)
            .bind(now.0)
            .bind(MembershipId::fresh().0)
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query(outbox::ROOM_CHANGED)
        .bind(room.id.0)
        .bind(creator.0)
        .bind(now.0)
        .bind(created_detail(room))
        .execute(&mut *tx)
        .await?;
    sqlx::query(outbox::OTHER_MEMBER_CHANGED)
        .bind(room.id.0)
        .bind(creator.0)
        .bind(other.0)
        .bind(now.0)
        .bind(joined_detail())
        .execute(tx)
        .await?;
    Ok(())
}
