//! Reading stored messages.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

use super::Sqlite;
use crate::domain::{MessageId, RoomId, Seq, StoredMessage, UserId};
use crate::storage::history::{known_heads, read_messages};
use crate::storage::{History, HistoryNews, KnownMessage, StoreError, Window};

// One statement for head and messages, so that they are of the same moment. The array is not ordered here: SQLite would put
// every object through a tree of its own for that, while they come in order, one way or the other.
const NEWEST_FIRST: &str = "
    SELECT COALESCE(h.seq, 0),
           CASE WHEN COALESCE(h.seq, 0) BETWEEN ?6 AND ?7 THEN NULL ELSE
           (SELECT json_group_array(json_object('seq', seq, 'id', lower(hex(id)), 'username', username, 'public_id', public_id,
                                                'kind', kind, 'text', text, 'created_on', created_on))
            FROM (SELECT m.seq, m.id, u.username, u.public_id, m.kind, m.text, m.created_on
                  FROM messages m JOIN users u ON u.id = m.sender_id
                  WHERE m.room_id = ?1 AND m.seq > ?3 AND m.seq < ?4 ORDER BY m.seq DESC LIMIT +?5)) END
    FROM rooms r LEFT JOIN room_heads h ON h.room_id = r.id
    WHERE r.id = ?1 AND r.deleted_on IS NULL
      AND (NOT r.is_private OR EXISTS (SELECT 1 FROM members o WHERE o.room_id = r.id AND o.user_id = ?2))";

const OLDEST_FIRST: &str = "
    SELECT COALESCE(h.seq, 0),
           CASE WHEN COALESCE(h.seq, 0) BETWEEN ?6 AND ?7 THEN NULL ELSE
           (SELECT json_group_array(json_object('seq', seq, 'id', lower(hex(id)), 'username', username, 'public_id', public_id,
                                                'kind', kind, 'text', text, 'created_on', created_on))
            FROM (SELECT m.seq, m.id, u.username, u.public_id, m.kind, m.text, m.created_on
                  FROM messages m JOIN users u ON u.id = m.sender_id
                  WHERE m.room_id = ?1 AND m.seq > ?3 AND m.seq < ?4 ORDER BY m.seq LIMIT +?5)) END
    FROM rooms r LEFT JOIN room_heads h ON h.room_id = r.id
    WHERE r.id = ?1 AND r.deleted_on IS NULL
      AND (NOT r.is_private OR EXISTS (SELECT 1 FROM members o WHERE o.room_id = r.id AND o.user_id = ?2))";

#[async_trait]
impl History for Sqlite {
    async fn history_unless_known(
        &self,
        room: RoomId,
        user: Option<UserId>,
        window: Window,
        limit: u32,
        known: Option<RangeInclusive<Seq>>,
    ) -> Result<Option<HistoryNews>, StoreError> {
        let only = match window {
            Window::Only(id) => self.seq_in(room, id).await?,
            Window::Before(_) | Window::After(_) | Window::Between(..) => None,
        };
        let (after, before, oldest_first) = window.bounds(only);
        let (first_known, last_known) = known_heads(known);
        let row = sqlx::query_as(if oldest_first { OLDEST_FIRST } else { NEWEST_FIRST })
            .bind(room.0)
            .bind(user.map(|user| user.0))
            .bind(after.0)
            .bind(before.0)
            .bind(limit)
            .bind(first_known.0)
            .bind(last_known.0)
            .fetch_optional(&self.history)
            .await?;
        Ok(row.map(HistoryNews::from_row).transpose()?)
    }

    async fn messages_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<StoredMessage>, StoreError> {
        let json: String = sqlx::query_scalar(
            "SELECT json_group_array(json_object('seq', seq, 'id', lower(hex(id)), 'username', username, 'public_id', public_id,
                                                 'kind', kind, 'text', text, 'created_on', created_on))
             FROM (SELECT m.seq, m.id, u.username, u.public_id, m.kind, m.text, m.created_on
                   FROM messages m JOIN users u ON u.id = m.sender_id
                   WHERE m.room_id = ? AND m.seq > ? ORDER BY m.seq LIMIT +?)",
        )
        .bind(room.0)
        .bind(after.0)
        .bind(limit)
        .fetch_one(&self.history)
        .await?;
        Ok(read_messages(&json)?)
    }

    async fn head(&self, room: RoomId) -> Result<Seq, StoreError> {
        let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM room_heads WHERE room_id = ?")
            .bind(room.0)
            .fetch_optional(&self.read)
            .await?;
        Ok(seq.map_or(Seq::ZERO, Seq))
    }

    async fn known_message(&self, id: MessageId) -> Result<Option<KnownMessage>, StoreError> {
        let row: Option<(i64, String, String, bool)> = sqlx::query_as(
            "SELECT m.room_id, m.text, r.name, r.deleted_on IS NOT NULL
             FROM messages m JOIN rooms r ON r.id = m.room_id WHERE m.id = ?",
        )
        .bind(id.0)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.map(|(room, text, room_name, room_is_deleted)| KnownMessage {
            room: RoomId(room),
            text,
            room_name,
            room_is_deleted,
        }))
    }

    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError> {
        let mut connection = self.read.acquire().await?;
        Ok(stored_seqs(&mut connection, ids).await?.into_iter().collect())
    }
}

impl Sqlite {
    async fn seq_in(&self, room: RoomId, id: MessageId) -> Result<Option<Seq>, StoreError> {
        let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM messages WHERE id = ? AND room_id = ?")
            .bind(id.0)
            .bind(room.0)
            .fetch_optional(&self.history)
            .await?;
        Ok(seq.map(Seq))
    }
}

/// The places of those of `ids` that are stored.
pub(super) async fn stored_seqs(
    connection: &mut sqlx::SqliteConnection,
    ids: &[MessageId],
) -> Result<Vec<(MessageId, Seq)>, sqlx::Error> {
    let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
    let known: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT id, seq FROM messages WHERE id IN (SELECT unhex(j.value) FROM json_each(?) j)")
            .bind(json!(ids).to_string())
            .fetch_all(connection)
            .await?;
    Ok(known.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
}
