//! Pages of stored messages.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use uuid::Uuid;

use super::Sqlite;
use super::json_list::{Hex, json_list};
use crate::domain::{MessageId, RoomId, Seq, StoredMessage, UserId};
use crate::storage::history::{decode_known, decode_messages, known_heads};
use crate::storage::sql::messages::{self as sql, from_visible_room, select_messages};
use crate::storage::{History, HistoryPage, KnownMessage, StoreError, Window};

/// A page and the room's head, in one statement so that they are of the same moment.
///
/// It reads upwards whichever end is wanted: to the next row SQLite takes one step, to the one before it goes through the
/// tree again. Seqs have no gaps, so the newest messages begin so many below the end. The array is not ordered here, since
/// SQLite would put every message through a tree of its own for that.
const PAGE: &str = concat!(
    "SELECT COALESCE(h.seq, 0),
            CASE WHEN COALESCE(h.seq, 0) BETWEEN $6 AND $7 THEN NULL ELSE
            (SELECT json_group_array(json_array(seq, hex(id), username, public_id, kind, text, created_on)) FROM (",
    select_messages!(),
    "              WHERE m.room_id = $1 AND m.seq > CASE WHEN $8 THEN $3 ELSE max($3, min($4, h.seq + 1) - 1 - $5) END
                    AND m.seq < $4
                   ORDER BY m.seq LIMIT +$5)) END",
    from_visible_room!()
);

const MESSAGES_AFTER: &str = concat!(
    "SELECT json_group_array(json_array(seq, hex(id), username, public_id, kind, text, created_on)) FROM (",
    select_messages!(),
    " WHERE m.room_id = $1 AND m.seq > $2 ORDER BY m.seq LIMIT +$3)"
);

#[async_trait]
impl History for Sqlite {
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
        let page = self.page((room, user), (after, before, oldest_first), limit, known).await?;
        let Some(HistoryPage {
            head,
            messages: Some(messages),
        }) = &page
        else {
            return Ok(page);
        };
        let above_page = before.min(head.next());
        let expected = above_page.0.saturating_sub(after.0).saturating_sub(1).clamp(0, limit.into());
        if oldest_first || i64::try_from(messages.len()).is_ok_and(|found| found >= expected) {
            return Ok(page);
        }
        // Messages are missing, so the page begins at a lower seq.
        let below = self.below_newest(room, (after, above_page), limit).await?;
        let whole = self.page((room, user), (below, above_page, true), limit, None).await?;
        Ok(whole.map(|whole| HistoryPage { head: *head, ..whole }))
    }

    async fn messages_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<StoredMessage>, StoreError> {
        let json: String = sqlx::query_scalar(MESSAGES_AFTER)
            .bind(room.0)
            .bind(after.0)
            .bind(limit)
            .fetch_one(&self.history)
            .await?;
        Ok(decode_messages(&json)?)
    }

    async fn head(&self, room: RoomId) -> Result<Seq, StoreError> {
        let seq: Option<i64> = sqlx::query_scalar(sql::HEAD).bind(room.0).fetch_optional(&self.read).await?;
        Ok(seq.map_or(Seq::ZERO, Seq))
    }

    async fn known_messages(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, KnownMessage>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT m.id, m.seq, m.room_id, m.text, r.name, r.deleted_on IS NOT NULL
             FROM messages m JOIN rooms r ON r.id = m.room_id WHERE m.id IN (SELECT unhex(j.value) FROM json_each($1) j)",
        )
        .bind(json_list(ids.iter().copied().map(Hex))?)
        .fetch_all(&self.read)
        .await?;
        Ok(decode_known(rows))
    }

    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError> {
        let stored: Vec<(Uuid, i64)> =
            sqlx::query_as("SELECT id, seq FROM messages WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j)")
                .bind(json_list(ids.iter().copied().map(Hex))?)
                .fetch_all(&self.read)
                .await?;
        Ok(stored.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
    }
}

impl Sqlite {
    /// Reads a page between two seqs, both excluded: from the lower end, or from where the page reaches the upper end if no seq is
    /// missing.
    async fn page(
        &self,
        (room, user): (RoomId, Option<UserId>),
        (after, before, oldest_first): (Seq, Seq, bool),
        limit: u32,
        known: Option<RangeInclusive<Seq>>,
    ) -> Result<Option<HistoryPage>, StoreError> {
        let (first_known, last_known) = known_heads(known);
        let row = sqlx::query_as(PAGE)
            .bind(room.0)
            .bind(user.map(|user| user.0))
            .bind(after.0)
            .bind(before.0)
            .bind(limit)
            .bind(first_known.0)
            .bind(last_known.0)
            .bind(oldest_first)
            .fetch_optional(&self.history)
            .await?;
        Ok(row.map(HistoryPage::from_row).transpose()?)
    }

    /// The seq just below the newest `limit` messages between two seqs, both excluded.
    async fn below_newest(&self, room: RoomId, (after, before): (Seq, Seq), limit: u32) -> Result<Seq, StoreError> {
        let first: Option<i64> = sqlx::query_scalar(
            "SELECT min(seq) FROM (SELECT seq FROM messages WHERE room_id = $1 AND seq > $2 AND seq < $3 ORDER BY seq DESC LIMIT +$4)",
        )
        .bind(room.0)
        .bind(after.0)
        .bind(before.0)
        .bind(limit)
        .fetch_one(&self.history)
        .await?;
        Ok(first.map_or(after, |first| Seq(first - 1)))
    }

    async fn seq_in(&self, room: RoomId, id: MessageId) -> Result<Option<Seq>, StoreError> {
        let seq: Option<i64> =
            sqlx::query_scalar(sql::SEQ_IN_ROOM).bind(id.0).bind(room.0).fetch_optional(&self.history).await?;
        Ok(seq.map(Seq))
    }
}
