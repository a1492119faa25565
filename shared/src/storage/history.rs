//! Reading stored messages.

use std::collections::HashMap;

use serde_json::json;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::{MessageId, RoomId, Seq, StoredMessage};

/// Which part of a room's history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The newest messages below this seq.
    Before(Seq),
    /// The oldest messages above this seq.
    After(Seq),
    /// The newest messages between two seqs, both excluded.
    Between(Seq, Seq),
    /// The message of this id, wherever it is.
    Only(MessageId),
}

/// A part of a room's history and the position at which it was read.
pub struct HistoryPage {
    /// Last seq of the room when the page was read; the page holds nothing above it.
    pub head: Seq,
    /// Messages with ascending seqs.
    pub messages: Vec<StoredMessage>,
}

/// What is stored under a message id; compared when an idempotency key is used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// The room it was posted to.
    pub room: RoomId,
    /// What was posted.
    pub text: String,
}

// One row of JSON instead of one row a message: handing a row from SQLite's thread to ours costs more than reading it.
const NEWEST_FIRST: &str = "
    SELECT json_group_array(json_object('seq', seq, 'id', lower(hex(id)), 'username', username, 'kind', kind,
                                        'text', text, 'created_on', created_on) ORDER BY seq)
    FROM (SELECT m.seq, m.id, u.username, m.kind, m.text, m.created_on
          FROM messages m JOIN users u ON u.id = m.sender_id
          WHERE m.room_id = ? AND m.seq > ? AND m.seq < ? ORDER BY m.seq DESC LIMIT ?)";

const OLDEST_FIRST: &str = "
    SELECT json_group_array(json_object('seq', seq, 'id', lower(hex(id)), 'username', username, 'kind', kind,
                                        'text', text, 'created_on', created_on) ORDER BY seq)
    FROM (SELECT m.seq, m.id, u.username, m.kind, m.text, m.created_on
          FROM messages m JOIN users u ON u.id = m.sender_id
          WHERE m.room_id = ? AND m.seq > ? AND m.seq < ? ORDER BY m.seq LIMIT ?)";

impl Store {
    /// At most `limit` messages of `room` within `window`.
    pub async fn history(&self, room: RoomId, window: Window, limit: u32) -> Result<HistoryPage, StoreError> {
        // The head first, then nothing above it: a stream opened from this head neither misses nor repeats anything.
        let head = self.head(room).await?;
        let above_head = head.next();
        let (after, before) = match window {
            Window::Only(id) => match self.seq_of(room, id).await? {
                Some(seq) => (Seq(seq.0 - 1), seq.next()),
                None => (head, head),
            },
            Window::Before(before) => (Seq::ZERO, before),
            Window::Between(after, before) => (after, before),
            Window::After(after) => (after, above_head),
        };
        let oldest_first = matches!(window, Window::After(_));
        let statement = if oldest_first { OLDEST_FIRST } else { NEWEST_FIRST };
        let json: String = sqlx::query_scalar(statement)
            .bind(room.0)
            .bind(after.0)
            .bind(before.min(above_head).0)
            .bind(limit)
            .fetch_one(&self.read)
            .await?;
        let messages: Vec<StoredMessage> = serde_json::from_str(&json).map_err(|e| sqlx::Error::Decode(e.into()))?;
        Ok(HistoryPage { head, messages })
    }

    async fn seq_of(&self, room: RoomId, id: MessageId) -> Result<Option<Seq>, StoreError> {
        let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM messages WHERE id = ? AND room_id = ?")
            .bind(id.0)
            .bind(room.0)
            .fetch_optional(&self.read)
            .await?;
        Ok(seq.map(Seq))
    }

    /// Last seq of `room`; [`Seq::ZERO`] if it has no messages.
    pub async fn head(&self, room: RoomId) -> Result<Seq, StoreError> {
        let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM room_heads WHERE room_id = ?")
            .bind(room.0)
            .fetch_optional(&self.read)
            .await?;
        Ok(seq.map_or(Seq::ZERO, Seq))
    }

    /// The places of those of `ids` that are stored.
    pub async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError> {
        let keys: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
        let rows: Vec<(Uuid, i64)> =
            sqlx::query_as("SELECT m.id, m.seq FROM json_each(?) j JOIN messages m ON m.id = unhex(j.value)")
                .bind(json!(keys).to_string())
                .fetch_all(&self.read)
                .await?;
        Ok(rows.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
    }

    /// What is stored under this id.
    pub async fn known_message(&self, id: MessageId) -> Result<Option<KnownMessage>, StoreError> {
        let row: Option<(i64, String)> = sqlx::query_as("SELECT room_id, text FROM messages WHERE id = ?")
            .bind(id.0)
            .fetch_optional(&self.read)
            .await?;
        Ok(row.map(|(room, text)| KnownMessage {
            room: RoomId(room),
            text,
        }))
    }
}
