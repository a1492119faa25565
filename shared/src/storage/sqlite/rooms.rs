//! Rooms and their members.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::Sqlite;
use super::json_list::json_list;
use crate::domain::{MembershipId, OutboxHint, RoomId, RoomName, Timestamp, UserId};
use crate::storage::outbox::{MemberDetails, created_detail, decode_hints, joined_details, left_details};
use crate::storage::rooms::decode_memberships;
use crate::storage::sql::visibility::room_exists;
use crate::storage::sql::{outbox, rooms as sql};
use crate::storage::{
    CreateRoom, CreateRoomError, JoinMode, JoinOutcome, Memberships, Outbox, Room, RoomHead, Rooms, StoreError,
    run_detached,
};

const MEMBERSHIPS_AMONG: &str = concat!(
    "SELECT m.room_id, m.user_id, m.id
     FROM json_each($1) j
     JOIN members m ON m.room_id = j.value ->> 0 AND m.user_id = j.value ->> 1
     JOIN rooms r ON r.id = m.room_id
     WHERE ",
    room_exists!("r")
);

#[async_trait]
impl Rooms for Sqlite {
    async fn create_room_within(&self, most: u32, new: CreateRoom, now: Timestamp) -> Result<Room, CreateRoomError> {
        self.transaction(move |tx| {
            Box::pin(async move {
                let owned: i64 =
                    sqlx::query_scalar(sql::COUNT_OWNED_ROOMS).bind(new.owner.0).fetch_one(&mut *tx).await?;
                if owned >= i64::from(most) {
                    return Err(CreateRoomError::TooMany);
                }
                let created: Vec<Room> = sqlx::query_as(sql::INSERT_ROOM)
                    .bind(new.name.as_str())
                    .bind(new.owner.0)
                    .bind(new.is_private)
                    .bind(now.0)
                    .bind(new.reserved_since.map_or(i64::MAX, |since| since.0))
                    .bind(new.name.as_str().to_ascii_lowercase())
                    .fetch_all(&mut *tx)
                    .await?;
                let room = created.into_iter().next().ok_or(CreateRoomError::Reserved)?;
                sqlx::query(sql::INSERT_MEMBER)
                    .bind(room.id.0)
                    .bind(new.owner.0)
                    .bind(now.0)
                    .bind(MembershipId::fresh().0)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query(outbox::ROOM_CHANGED)
                    .bind(room.id.0)
                    .bind(new.owner.0)
                    .bind(now.0)
                    .bind(created_detail(&room))
                    .execute(&mut *tx)
                    .await?;
                Ok(room)
            })
        })
        .await
    }

    async fn room_by_name(&self, name: &RoomName) -> Result<Option<Room>, StoreError> {
        let room = sqlx::query_as(sql::ROOM_BY_NAME).bind(name.as_str()).fetch_optional(&self.read).await?;
        Ok(room)
    }

    async fn list_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let names = sqlx::query_scalar(sql::LIST_ROOMS)
            .bind(after)
            .bind(user.0)
            .bind(limit)
            .fetch_all(&self.read)
            .await?;
        Ok(names)
    }

    async fn delete_room(&self, room: RoomId, now: Timestamp) -> Result<bool, StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            let done = sqlx::query(sql::DELETE_ROOM).bind(now.0).bind(room.0).execute(&pool).await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn membership(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError> {
        let id: Option<i64> =
            sqlx::query_scalar(sql::MEMBERSHIP).bind(room.0).bind(user.0).fetch_optional(&self.read).await?;
        Ok(id.map(MembershipId))
    }

    async fn memberships_among(&self, pairs: &[(RoomId, UserId)]) -> Result<Memberships, StoreError> {
        let found: Vec<(i64, i64, i64)> =
            sqlx::query_as(MEMBERSHIPS_AMONG).bind(json_list(pairs)?).fetch_all(&self.read).await?;
        Ok(decode_memberships(found))
    }

    async fn join_public(
        &self,
        room: RoomId,
        user: UserId,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<JoinOutcome, StoreError> {
        let joined = self.transaction(move |tx| {
            Box::pin(async move {
                let fresh = MembershipId::fresh();
                let joined: Vec<i64> = sqlx::query_scalar(sql::JOIN_PUBLIC_ROOM)
                    .bind(user.0)
                    .bind(now.0)
                    .bind(fresh.0)
                    .bind(room.0)
                    .bind(mode == JoinMode::Explicit)
                    .fetch_all(&mut *tx)
                    .await?;
                let membership = joined.first().copied().map(MembershipId);
                if membership == Some(fresh) {
                    add_to_outbox(tx, (room, user), &joined_details(), now).await?;
                }
                Ok::<_, StoreError>(membership)
            })
        });
        if let Some(membership) = joined.await? {
            return Ok(JoinOutcome::Member(membership));
        }
        if let Some(membership) = self.membership(room, user).await? {
            return Ok(JoinOutcome::Member(membership));
        }
        Ok(if self.is_public(room).await? {
            JoinOutcome::Replaced
        } else {
            JoinOutcome::NotFound
        })
    }

    async fn leave(&self, room: RoomId, user: UserId, now: Timestamp) -> Result<Option<MembershipId>, StoreError> {
        self.transaction(move |tx| {
            Box::pin(async move {
                let ended: Vec<i64> =
                    sqlx::query_scalar(sql::LEAVE_ROOM).bind(room.0).bind(user.0).fetch_all(&mut *tx).await?;
                let ended = ended.first().copied().map(MembershipId);
                if ended.is_some() {
                    add_to_outbox(tx, (room, user), &left_details(), now).await?;
                }
                Ok(ended)
            })
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
        let names = sqlx::query_scalar(sql::LIST_MEMBERS)
            .bind(room.0)
            .bind(user.0)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.read)
            .await?;
        Ok(names)
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<HashMap<RoomId, RoomHead>, StoreError> {
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT j.value, COALESCE(h.seq, 0), COALESCE(h.changed, 0) FROM json_each($1) j LEFT JOIN room_heads h ON h.room_id = j.value",
        )
        .bind(json_list(rooms)?)
        .fetch_all(&self.read)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(room, seq, changed)| (RoomId(room), RoomHead::from_row((seq, changed))))
            .collect())
    }
}

/// Writes what a user changed about their own membership: see [`MemberDetails`].
async fn add_to_outbox(
    tx: &mut SqliteConnection,
    (room, user): (RoomId, UserId),
    MemberDetails { of_owner, of_others }: &MemberDetails,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(outbox::MEMBER_CHANGED)
        .bind(room.0)
        .bind(user.0)
        .bind(now.0)
        .bind(of_owner)
        .bind(of_others)
        .execute(tx)
        .await?;
    Ok(())
}

#[async_trait]
impl Outbox for Sqlite {
    async fn rooms_in_outbox(&self, after: RoomId, limit: u32) -> Result<Vec<OutboxHint>, StoreError> {
        let rooms: Vec<(i64, i64)> =
            sqlx::query_as(outbox::ROOMS_IN_OUTBOX).bind(after.0).bind(limit).fetch_all(&self.read).await?;
        Ok(decode_hints(rooms))
    }

    async fn last_in_outbox(&self, room: RoomId) -> Result<Option<OutboxHint>, StoreError> {
        let last: Option<i64> = sqlx::query_scalar(outbox::LAST_IN_OUTBOX).bind(room.0).fetch_one(&self.read).await?;
        Ok(last.map(|upto| OutboxHint { room, upto }))
    }
}

impl Sqlite {
    /// Whether the room exists now and is public.
    async fn is_public(&self, room: RoomId) -> Result<bool, StoreError> {
        let is_public = sqlx::query_scalar(sql::IS_PUBLIC).bind(room.0).fetch_one(&self.read).await?;
        Ok(is_public)
    }
}
