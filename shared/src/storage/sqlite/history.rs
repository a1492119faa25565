//! Pages of stored messages.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::Sqlite;
use super::json_list::{Hex, json_list};
use crate::domain::{MessageId, RoomEntry, RoomId, Seq, StoredMessage, UserId};
use crate::storage::history::{
    PageRow, below_middle, decode_entries, decode_known, decode_messages, decode_messages_of_rooms, known_heads,
};
use crate::storage::sql::messages::{
    self as sql, from_visible_message, from_visible_room, is_reply, select_changes, select_messages,
};
use crate::storage::{History, HistoryPage, KnownMessage, KnownPage, RoomHead, StoreError, Window};

/// The columns of a message in an array of JSON.
macro_rules! message_array {
    () => {
        "json_group_array(json_array(seq, hex(id), username, public_id, kind, text, created_on, json(extra)))"
    };
}

/// A page and the room's head, in one statement so that they are of the same moment.
///
/// It reads upwards whichever end is wanted: to the next row SQLite takes one step, to the one before it goes through the
/// tree again. Where there are messages alone, seqs have no gaps, so the newest ones begin so many below the end. That is so if
/// the message there has all other entries of the room before it, such as those of its creation and of who joined; elsewhere
/// the index says where they begin. The array is not ordered here, since SQLite would put every message through a tree of its own for that.
const PAGE: &str = concat!(
    "SELECT COALESCE(h.seq, 0), COALESCE(h.changed, 0), COALESCE(h.others, 0),
            CASE WHEN COALESCE(h.seq, 0) BETWEEN $6 AND $7 AND COALESCE(h.changed, 0) = $9 THEN NULL ELSE
            (SELECT ",
    message_array!(),
    " FROM (",
    select_messages!(),
    "              WHERE m.room_id = $1 AND m.seq < $4 AND m.seq > CASE
                        WHEN $8 THEN $3
                        WHEN h.others > 0 AND NOT EXISTS (
                            SELECT 1 FROM messages f WHERE f.room_id = $1 AND f.others = h.others
                            AND f.seq = max($3, min($4, h.seq + 1) - 1 - $5) + 1) THEN COALESCE((SELECT f.seq - 1 FROM messages f
                                                         WHERE f.room_id = $1 AND f.seq > $3 AND f.seq < $4
                                                         ORDER BY f.seq DESC LIMIT 1 OFFSET $5 - 1), $3)
                        ELSE max($3, min($4, h.seq + 1) - 1 - $5) END
                   ORDER BY m.seq LIMIT +$5)) END",
    from_visible_room!()
);

const NEWEST_MESSAGES: &str = concat!(
    "SELECT t.value, (SELECT ",
    message_array!(),
    " FROM (",
    select_messages!(),
    " WHERE m.room_id = t.value ORDER BY m.seq DESC LIMIT +$2)) FROM json_each($1) t"
);

/// Messages and changes, in one statement so that they are of the same moment.
const ENTRIES_AFTER: &str = concat!(
    "SELECT (SELECT ",
    message_array!(),
    " FROM (",
    select_messages!(),
    " WHERE m.room_id = $1 AND m.seq > $2 ORDER BY m.seq LIMIT +$3)),
            (SELECT json_group_array(json_array(seq, username, public_id, created_on, kind, nullif(hex(target), ''), target_seq,
                                                json(detail), text, member)) FROM (",
    select_changes!(),
    " LIMIT +$3))"
);

const REPLIES: &str = concat!(
    "SELECT (SELECT ",
    message_array!(),
    " FROM (",
    select_messages!(),
    " WHERE",
    is_reply!(),
    "))",
    from_visible_message!()
);

#[async_trait]
impl History for Sqlite {
    async fn history_page(
        &self,
        room: RoomId,
        user: Option<UserId>,
        window: Window,
        limit: u32,
        known: Option<KnownPage>,
    ) -> Result<Option<HistoryPage>, StoreError> {
        let first = match window {
            Window::Only(id) => self.seq_in(room, id).await?,
            Window::Around(seq) => self.first_of_newest(room, (Seq::ZERO, seq), below_middle(limit)).await?,
            Window::Before(_) | Window::After(_) | Window::Between(..) => None,
        };
        let (after, before, oldest_first) = window.bounds(first);
        let Some(row) = self.page((room, user), (after, before, oldest_first), limit, known).await? else {
            return Ok(None);
        };
        let others = row.2;
        let page = HistoryPage::from_row(row)?;
        let Some(messages) = &page.messages else {
            return Ok(Some(page));
        };
        let above_page = before.min(page.head.seq.next());
        let expected = above_page.0.saturating_sub(after.0).saturating_sub(1).clamp(0, limit.into());
        if oldest_first || others > 0 || i64::try_from(messages.len()).is_ok_and(|found| found >= expected) {
            return Ok(Some(page));
        }
        // Messages are missing, so the page begins at a lower seq.
        let first = self.first_of_newest(room, (after, above_page), limit).await?;
        let below = first.map_or(after, |first| Seq(first.0 - 1));
        let whole = self.page((room, user), (below, above_page, true), limit, None).await?;
        let whole = whole.map(HistoryPage::from_row).transpose()?;
        Ok(whole.map(|whole| HistoryPage {
            head: page.head,
            ..whole
        }))
    }

    async fn entries_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<RoomEntry>, StoreError> {
        let (messages, changes): (String, String) = sqlx::query_as(ENTRIES_AFTER)
            .bind(room.0)
            .bind(after.0)
            .bind(limit)
            .fetch_one(&self.history)
            .await?;
        Ok(decode_entries(&messages, &changes, limit)?)
    }

    async fn replies(
        &self,
        (room, to): (RoomId, MessageId),
        user: UserId,
        after: Seq,
        limit: u32,
    ) -> Result<Option<Vec<StoredMessage>>, StoreError> {
        let json: Option<String> = sqlx::query_scalar(REPLIES)
            .bind(room.0)
            .bind(to.0)
            .bind(after.0)
            .bind(limit)
            .bind(user.0)
            .fetch_optional(&self.history)
            .await?;
        Ok(json.as_deref().map(decode_messages).transpose()?)
    }

    async fn newest_messages(
        &self,
        rooms: &[RoomId],
        each: u32,
    ) -> Result<HashMap<RoomId, Vec<StoredMessage>>, StoreError> {
        let rows = sqlx::query_as(NEWEST_MESSAGES).bind(json_list(rooms)?).bind(each).fetch_all(&self.history).await?;
        Ok(decode_messages_of_rooms(rows)?)
    }

    async fn head(&self, room: RoomId) -> Result<RoomHead, StoreError> {
        let head: Option<(i64, i64)> = sqlx::query_as(sql::HEAD).bind(room.0).fetch_optional(&self.read).await?;
        Ok(head.map(RoomHead::from_row).unwrap_or_default())
    }

    async fn known_messages(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, KnownMessage>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT m.id, m.seq, m.room_id, m.text, m.extra, r.name, r.deleted_on IS NOT NULL
             FROM messages m JOIN rooms r ON r.id = m.room_id WHERE m.id IN (SELECT unhex(j.value) FROM json_each($1) j)",
        )
        .bind(json_list(ids.iter().copied().map(Hex))?)
        .fetch_all(&self.read)
        .await?;
        Ok(decode_known(rows)?)
    }

    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError> {
        let stored: Vec<(Uuid, i64)> = sqlx::query_as(
            "SELECT id, seq FROM messages WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j)
             UNION ALL SELECT id, seq FROM changes WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j)",
        )
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
        known: Option<KnownPage>,
    ) -> Result<Option<PageRow>, StoreError> {
        let (first_known, last_known, changed) = known_heads(known);
        let row = sqlx::query_as(PAGE)
            .bind(room.0)
            .bind(user.map(|user| user.0))
            .bind(after.0)
            .bind(before.0)
            .bind(limit)
            .bind(first_known.0)
            .bind(last_known.0)
            .bind(oldest_first)
            .bind(changed.0)
            .fetch_optional(&self.history)
            .await?;
        Ok(row)
    }

    /// The lowest seq of the newest `limit` messages between two seqs, both excluded; `None` if there are none.
    async fn first_of_newest(
        &self,
        room: RoomId,
        (after, before): (Seq, Seq),
        limit: u32,
    ) -> Result<Option<Seq>, StoreError> {
        let first: Option<i64> = sqlx::query_scalar(sql::FIRST_OF_NEWEST)
            .bind(room.0)
            .bind(after.0)
            .bind(before.0)
            .bind(limit)
            .fetch_one(&self.history)
            .await?;
        Ok(first.map(Seq))
    }

    async fn seq_in(&self, room: RoomId, id: MessageId) -> Result<Option<Seq>, StoreError> {
        let seq: Option<i64> =
            sqlx::query_scalar(sql::SEQ_IN_ROOM).bind(id.0).bind(room.0).fetch_optional(&self.history).await?;
        Ok(seq.map(Seq))
    }
}
