//! Pages of stored messages.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Postgres, within_deadline};
use crate::domain::{MessageId, RoomId, Seq, StoredMessage, UserId};
use crate::storage::history::{decode_known, decode_messages, known_heads};
use crate::storage::sql::messages::{self as sql, from_visible_room, select_messages};
use crate::storage::{History, HistoryPage, KnownMessage, StoreError, Window};

/// Messages of room `$1` as an array in JSON, up to the range and the limit of the subquery that follows.
macro_rules! aggregate_messages {
    ($range:literal) => {
        concat!(
            "SELECT COALESCE(json_agg(json_build_array(seq, id, username, public_id, kind, text, created_on) ORDER BY seq),
                             '[]')::text FROM (",
            select_messages!(),
            " WHERE m.room_id = $1 AND ",
            $range,
            ") page"
        )
    };
}

/// A page and the room's head, in one statement so that they are of the same moment.
macro_rules! page {
    ($range:literal) => {
        concat!(
            "SELECT COALESCE(h.seq, 0), CASE WHEN COALESCE(h.seq, 0) BETWEEN $6 AND $7 THEN NULL ELSE (",
            aggregate_messages!($range),
            ") END",
            from_visible_room!()
        )
    };
}

const NEWEST_FIRST: &str = page!("m.seq > $3 AND m.seq < $4 ORDER BY m.seq DESC LIMIT $5");

const OLDEST_FIRST: &str = page!("m.seq > $3 AND m.seq < $4 ORDER BY m.seq LIMIT $5");

const MESSAGES_AFTER: &str = aggregate_messages!("m.seq > $2 ORDER BY m.seq LIMIT $3");

#[async_trait]
impl History for Postgres {
    async fn history_page(
        &self,
        room: RoomId,
        user: Option<UserId>,
        window: Window,
        limit: u32,
        known: Option<RangeInclusive<Seq>>,
    ) -> Result<Option<HistoryPage>, StoreError> {
        let only = match window {
            Window::Only(id) => self.seq_in(room, id).await?,
            Window::Before(_) | Window::After(_) | Window::Between(..) => None,
        };
        let (after, before, oldest_first) = window.bounds(only);
        let (first_known, last_known) = known_heads(known);
        let query = sqlx::query_as(if oldest_first { OLDEST_FIRST } else { NEWEST_FIRST })
            .bind(room.0)
            .bind(user.map(|user| user.0))
            .bind(after.0)
            .bind(before.0)
            .bind(i64::from(limit))
            .bind(first_known.0)
            .bind(last_known.0);
        let row = within_deadline(query.fetch_optional(&self.history)).await?;
        Ok(row.map(HistoryPage::from_row).transpose()?)
    }

    async fn messages_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<StoredMessage>, StoreError> {
        let query = sqlx::query_scalar(MESSAGES_AFTER).bind(room.0).bind(after.0).bind(i64::from(limit));
        let json: String = within_deadline(query.fetch_one(&self.history)).await?;
        Ok(decode_messages(&json)?)
    }

    async fn head(&self, room: RoomId) -> Result<Seq, StoreError> {
        let query = sqlx::query_scalar(sql::HEAD).bind(room.0);
        let seq: Option<i64> = within_deadline(query.fetch_optional(&self.pool)).await?;
        Ok(seq.map_or(Seq::ZERO, Seq))
    }

    async fn known_messages(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, KnownMessage>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query_as(
            "SELECT m.id, m.seq, m.room_id, m.text, r.name, r.deleted_on IS NOT NULL
             FROM messages m JOIN rooms r ON r.id = m.room_id WHERE m.id = ANY ($1)",
        )
        .bind(ids);
        Ok(decode_known(within_deadline(query.fetch_all(&self.pool)).await?))
    }

    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query_as("SELECT id, seq FROM messages WHERE id = ANY ($1)").bind(ids);
        let stored: Vec<(Uuid, i64)> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(stored.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
    }
}

impl Postgres {
    async fn seq_in(&self, room: RoomId, id: MessageId) -> Result<Option<Seq>, StoreError> {
        let query = sqlx::query_scalar(sql::SEQ_IN_ROOM).bind(id.0).bind(room.0);
        let seq: Option<i64> = within_deadline(query.fetch_optional(&self.history)).await?;
        Ok(seq.map(Seq))
    }
}
