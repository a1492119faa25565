//! Rooms and their members.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{Postgres, run_detached, within_deadline};
use crate::domain::{MembershipId, OutboxHint, RoomId, RoomName, Timestamp, UserId};
use crate::storage::outbox::{MemberDetails, created_detail, decode_hints, joined_details, left_details};
use crate::storage::rooms::decode_memberships;
use crate::storage::sql::visibility::room_exists;
use crate::storage::sql::{outbox, rooms as sql};
use crate::storage::{
    CreateRoom, CreateRoomError, JoinMode, JoinOutcome, Memberships, Outbox, Room, RoomHead, Rooms, StoreError,
};

const MEMBERSHIPS_AMONG: &str = concat!(
    "SELECT m.room_id, m.user_id, m.id
     FROM UNNEST($1::bigint[], $2::bigint[]) AS pair (room_id, user_id)
     JOIN members m ON m.room_id = pair.room_id AND m.user_id = pair.user_id
     JOIN rooms r ON r.id = m.room_id
     WHERE ",
    room_exists!("r")
);

#[async_trait]
impl Rooms for Postgres {
    async fn create_room_within(&self, most: u32, new: CreateRoom, now: Timestamp) -> Result<Room, CreateRoomError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let mut tx = pool.begin().await?;
            // Other calls that create rooms for this owner wait here, so that the count misses none.
            sqlx::query("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE")
                .bind(new.owner.0)
                .execute(&mut *tx)
                .await?;
            let owned: i64 = sqlx::query_scalar(sql::COUNT_OWNED_ROOMS).bind(new.owner.0).fetch_one(&mut *tx).await?;
            if owned >= i64::from(most) {
                return Err(CreateRoomError::TooMany);
            }
            // The count misses a deletion that is committed meanwhile; then the index rooms_incarnation refuses the room.
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
            tx.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn room_by_name(&self, name: &RoomName) -> Result<Option<Room>, StoreError> {
        let query = sqlx::query_as(sql::ROOM_BY_NAME).bind(name.as_str());
        Ok(within_deadline(query.fetch_optional(&self.pool)).await?)
    }

    async fn list_rooms(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(sql::LIST_ROOMS).bind(after).bind(user.0).bind(i64::from(limit));
        Ok(within_deadline(query.fetch_all(&self.pool)).await?)
    }

    async fn delete_room(&self, room: RoomId, now: Timestamp) -> Result<bool, StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let done = sqlx::query(sql::DELETE_ROOM).bind(now.0).bind(room.0).execute(&pool).await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn membership(&self, room: RoomId, user: UserId) -> Result<Option<MembershipId>, StoreError> {
        let query = sqlx::query_scalar(sql::MEMBERSHIP).bind(room.0).bind(user.0);
        let id: Option<i64> = within_deadline(query.fetch_optional(&self.pool)).await?;
        Ok(id.map(MembershipId))
    }

    async fn memberships_among(&self, pairs: &[(RoomId, UserId)]) -> Result<Memberships, StoreError> {
        let (rooms, users): (Vec<i64>, Vec<i64>) = pairs.iter().map(|(room, user)| (room.0, user.0)).unzip();
        let query = sqlx::query_as(MEMBERSHIPS_AMONG).bind(rooms).bind(users);
        Ok(decode_memberships(within_deadline(query.fetch_all(&self.pool)).await?))
    }

    async fn join_public(
        &self,
        room: RoomId,
        user: UserId,
        mode: JoinMode,
        now: Timestamp,
    ) -> Result<JoinOutcome, StoreError> {
        let pool = self.pool.clone();
        let joined = run_detached(async move {
            let (mut tx, fresh) = (pool.begin().await?, MembershipId::fresh());
            lock_room(&mut tx, room).await?;
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
                add_to_outbox(&mut tx, (room, user), &joined_details(), now).await?;
            }
            tx.commit().await?;
            Ok::<_, StoreError>(membership)
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
        let pool = self.pool.clone();
        run_detached(async move {
            let mut tx = pool.begin().await?;
            lock_room(&mut tx, room).await?;
            let ended: Vec<i64> =
                sqlx::query_scalar(sql::LEAVE_ROOM).bind(room.0).bind(user.0).fetch_all(&mut *tx).await?;
            let ended = ended.first().copied().map(MembershipId);
            if ended.is_some() {
                add_to_outbox(&mut tx, (room, user), &left_details(), now).await?;
            }
            tx.commit().await?;
            Ok(ended)
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
        let query = sqlx::query_scalar(sql::LIST_MEMBERS).bind(room.0).bind(user.0).bind(after).bind(i64::from(limit));
        Ok(within_deadline(query.fetch_all(&self.pool)).await?)
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<HashMap<RoomId, RoomHead>, StoreError> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let query = sqlx::query_as(
            "SELECT asked.id, COALESCE(h.seq, 0), COALESCE(h.changed, 0)
             FROM UNNEST($1::bigint[]) AS asked (id) LEFT JOIN room_heads h ON h.room_id = asked.id",
        )
        .bind(rooms);
        let rows: Vec<(i64, i64, i64)> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(rows
            .into_iter()
            .map(|(room, seq, changed)| (RoomId(room), RoomHead::from_row((seq, changed))))
            .collect())
    }
}

/// Locks the row of a room until the transaction ends.
///
/// Others who write about the room to the outbox wait here, so that the ids of rows are in the order of the commits. Whoever locks rows
/// of several tables does so in this order, so that nobody waits for each other: rooms, members, users, removals. A room that is
/// created is no exception, since nobody else knows it yet.
pub(super) async fn lock_room(tx: &mut PgConnection, room: RoomId) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("SELECT 1 FROM rooms WHERE id = $1 FOR NO KEY UPDATE").bind(room.0);
    lock.execute(tx).await.map(drop)
}

/// Writes what a user changed about their own membership: see [`MemberDetails`]. The room is locked.
async fn add_to_outbox(
    tx: &mut PgConnection,
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
impl Outbox for Postgres {
    async fn rooms_in_outbox(&self, after: RoomId, limit: u32) -> Result<Vec<OutboxHint>, StoreError> {
        let query = sqlx::query_as(outbox::ROOMS_IN_OUTBOX).bind(after.0).bind(i64::from(limit));
        let rooms: Vec<(i64, i64)> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(decode_hints(rooms))
    }

    async fn last_in_outbox(&self, room: RoomId) -> Result<Option<OutboxHint>, StoreError> {
        let query = sqlx::query_scalar(outbox::LAST_IN_OUTBOX).bind(room.0);
        let last: Option<i64> = within_deadline(query.fetch_one(&self.pool)).await?;
        Ok(last.map(|upto| OutboxHint { room, upto }))
    }
}

impl Postgres {
    /// Whether the room exists now and is public.
    async fn is_public(&self, room: RoomId) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar(sql::IS_PUBLIC).bind(room.0);
        Ok(within_deadline(query.fetch_one(&self.pool)).await?)
    }
}
