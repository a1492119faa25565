//! Pages of stored messages.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Postgres, within_deadline};
use crate::domain::{MessageId, RoomEntry, RoomId, Seq, StoredMessage, UserId};
use crate::storage::history::{
    below_middle, decode_entries, decode_known, decode_messages, decode_messages_of_rooms, known_heads,
};
use crate::storage::sql::messages::{
    self as sql, from_visible_message, from_visible_room, is_reply, select_changes, select_messages,
};
use crate::storage::{History, HistoryPage, KnownMessage, KnownPage, RoomHead, StoreError, Window};

/// Messages of room `$1` as an array in JSON, up to the range and the limit of the subquery that follows.
macro_rules! aggregate_messages {
    ($range:literal) => {
        concat!(
            "SELECT COALESCE(json_agg(json_build_array(seq, id, username, public_id, kind, text, created_on, extra::json)
                                      ORDER BY seq), '[]')::text FROM (",
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
            "SELECT COALESCE(h.seq, 0), COALESCE(h.changed, 0), COALESCE(h.others, 0),
                    CASE WHEN COALESCE(h.seq, 0) BETWEEN $6 AND $7 AND COALESCE(h.changed, 0) = $8 THEN NULL ELSE (",
            aggregate_messages!($range),
            ") END",
            from_visible_room!()
        )
    };
}

const NEWEST_FIRST: &str = page!("m.seq > $3 AND m.seq < $4 ORDER BY m.seq DESC LIMIT $5");

const OLDEST_FIRST: &str = page!("m.seq > $3 AND m.seq < $4 ORDER BY m.seq LIMIT $5");

const NEWEST_MESSAGES: &str = concat!(
    "SELECT t.room_id, (SELECT COALESCE(json_agg(json_build_array(seq, id, username, public_id, kind, text, created_on,
                                                                  extra::json) ORDER BY seq), '[]')::text FROM (",
    select_messages!(),
    " WHERE m.room_id = t.room_id ORDER BY m.seq DESC LIMIT $2) page) FROM UNNEST($1::bigint[]) AS t (room_id)"
);

/// Messages and changes, in one statement so that they are of the same moment.
const ENTRIES_AFTER: &str = concat!(
    "SELECT (",
    aggregate_messages!("m.seq > $2 ORDER BY m.seq LIMIT $3"),
    "), (SELECT COALESCE(json_agg(json_build_array(seq, username, public_id, created_on, kind, target, target_seq,
                                                   detail::json, text, member) ORDER BY seq), '[]')::text FROM (",
    select_changes!(),
    " LIMIT $3) page)"
);

const REPLIES: &str = concat!(
    "SELECT (SELECT COALESCE(json_agg(json_build_array(seq, id, username, public_id, kind, text, created_on, extra::json)
                                      ORDER BY seq), '[]')::text FROM (",
    select_messages!(),
    " WHERE",
    is_reply!(),
    ") page)",
    from_visible_message!()
);

#[async_trait]
impl History for Postgres {
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
        let (first_known, last_known, changed) = known_heads(known);
        let query = sqlx::query_as(if oldest_first { OLDEST_FIRST } else { NEWEST_FIRST })
            .bind(room.0)
            .bind(user.map(|user| user.0))
            .bind(after.0)
            .bind(before.0)
            .bind(i64::from(limit))
            .bind(first_known.0)
            .bind(last_known.0)
            .bind(changed.0);
        let row = within_deadline(query.fetch_optional(&self.history)).await?;
        Ok(row.map(HistoryPage::from_row).transpose()?)
    }

    async fn entries_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<RoomEntry>, StoreError> {
        let query = sqlx::query_as(ENTRIES_AFTER).bind(room.0).bind(after.0).bind(i64::from(limit));
        let (messages, changes): (String, String) = within_deadline(query.fetch_one(&self.history)).await?;
        Ok(decode_entries(&messages, &changes, limit)?)
    }

    async fn replies(
        &self,
        (room, to): (RoomId, MessageId),
        user: UserId,
        after: Seq,
        limit: u32,
    ) -> Result<Option<Vec<StoredMessage>>, StoreError> {
        let query = sqlx::query_scalar(REPLIES)
            .bind(room.0)
            .bind(to.0)
            .bind(after.0)
            .bind(i64::from(limit))
            .bind(user.0);
        let json: Option<String> = within_deadline(query.fetch_optional(&self.history)).await?;
        Ok(json.as_deref().map(decode_messages).transpose()?)
    }

    async fn newest_messages(
        &self,
        rooms: &[RoomId],
        each: u32,
    ) -> Result<HashMap<RoomId, Vec<StoredMessage>>, StoreError> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let query = sqlx::query_as(NEWEST_MESSAGES).bind(rooms).bind(i64::from(each));
        Ok(decode_messages_of_rooms(within_deadline(query.fetch_all(&self.history)).await?)?)
    }

    async fn head(&self, room: RoomId) -> Result<RoomHead, StoreError> {
        let query = sqlx::query_as(sql::HEAD).bind(room.0);
        let head: Option<(i64, i64)> = within_deadline(query.fetch_optional(&self.pool)).await?;
        Ok(head.map(RoomHead::from_row).unwrap_or_default())
    }

    async fn known_messages(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, KnownMessage>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query_as(
            "SELECT m.id, m.seq, m.room_id, m.text, m.extra, r.name, r.deleted_on IS NOT NULL
             FROM messages m JOIN rooms r ON r.id = m.room_id WHERE m.id = ANY ($1)",
        )
        .bind(ids);
        Ok(decode_known(within_deadline(query.fetch_all(&self.pool)).await?)?)
    }

    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query_as(
            "SELECT id, seq FROM messages WHERE id = ANY ($1) UNION ALL SELECT id, seq FROM changes WHERE id = ANY ($1)",
        )
        .bind(ids);
        let stored: Vec<(Uuid, i64)> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(stored.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
    }
}

impl Postgres {
    /// The lowest seq of the newest `limit` messages between two seqs, both excluded; `None` if there are none.
    async fn first_of_newest(
        &self,
        room: RoomId,
        (after, before): (Seq, Seq),
        limit: u32,
    ) -> Result<Option<Seq>, StoreError> {
        let query = sqlx::query_scalar(sql::FIRST_OF_NEWEST)
            .bind(room.0)
            .bind(after.0)
            .bind(before.0)
            .bind(i64::from(limit));
        let first: Option<i64> = within_deadline(query.fetch_one(&self.history)).await?;
        Ok(first.map(Seq))
    }

    async fn seq_in(&self, room: RoomId, id: MessageId) -> Result<Option<Seq>, StoreError> {
        let query = sqlx::query_scalar(sql::SEQ_IN_ROOM).bind(id.0).bind(room.0);
        let seq: Option<i64> = within_deadline(query.fetch_optional(&self.history)).await?;
        Ok(seq.map(Seq))
    }
}
