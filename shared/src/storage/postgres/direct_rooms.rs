//! Direct rooms.

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{Postgres, run_detached, within_deadline};
use crate::domain::{MembershipId, RoomId, RoomName, Timestamp, UserId};
use crate::storage::direct_rooms::{by_other_member, direct_key};
use crate::storage::outbox::{created_detail, joined_detail};
use crate::storage::sql::user_rooms::{self as sql, direct_partners};
use crate::storage::sql::{outbox, rooms};
use crate::storage::user_rooms::decode_states;
use crate::storage::{DirectPartner, DirectRooms, Room, RoomState, StoreError};

const DIRECT_PARTNERS: &str = direct_partners!("SELECT unnest($1::bigint[])");

#[async_trait]
impl DirectRooms for Postgres {
    async fn direct_room(
        &self,
        creator: UserId,
        other: UserId,
        name: RoomName,
        now: Timestamp,
    ) -> Result<(Room, bool), StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let mut tx = pool.begin().await?;
            // Calls from the other side wait here, and whoever changes what the two see of their rooms. Every call locks them in the same
            // order, so that none waits for another that waits for it.
            sqlx::query("SELECT 1 FROM users WHERE id IN ($1, $2) ORDER BY id FOR NO KEY UPDATE")
                .bind(creator.0)
                .bind(other.0)
                .execute(&mut *tx)
                .await?;
            let key = direct_key(creator, other);
            let created: Vec<Room> = sqlx::query_as(sql::INSERT_DIRECT_ROOM)
                .bind(name.as_str())
                .bind(creator.0)
                .bind(now.0)
                .bind(&key)
                .fetch_all(&mut *tx)
                .await?;
            if let Some(room) = created.into_iter().next() {
                add_members(&mut tx, &room, [creator, other], now).await?;
                tx.commit().await?;
                return Ok((room, true));
            }
            let room: Room = sqlx::query_as(sql::DIRECT_ROOM_BY_KEY).bind(&key).fetch_one(&mut *tx).await?;
            tx.commit().await?;
            // Apart, since it locks the membership before the user.
            sqlx::query(sql::SHOW_DIRECT_ROOM).bind(room.id.0).bind(creator.0).execute(&pool).await?;
            Ok((room, false))
        })
        .await
    }

    async fn hide_direct(&self, room: RoomId, user: UserId) -> Result<bool, StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let hidden = sqlx::query(sql::HIDE_DIRECT_ROOM).bind(room.0).bind(user.0).execute(&pool).await?;
            Ok(hidden.rows_affected() > 0)
        })
        .await
    }

    async fn direct_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<RoomState>, StoreError> {
        let query = sqlx::query_as(sql::DIRECT_ROOMS).bind(user.0).bind(after).bind(i64::from(limit));
        Ok(by_other_member(decode_states(within_deadline(query.fetch_all(&self.pool)).await?)?))
    }

    async fn direct_partners(&self, users: &[UserId], limit: u32) -> Result<Vec<DirectPartner>, StoreError> {
        let users: Vec<i64> = users.iter().map(|user| user.0).collect();
        let query = sqlx::query_as(DIRECT_PARTNERS).bind(users).bind(i64::from(limit));
        let rows = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(rows.into_iter().map(DirectPartner::from_row).collect())
    }
}

/// Makes two users the members of a new direct room, which the first one has created, and tells its log.
async fn add_members(
    tx: &mut PgConnection,
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
