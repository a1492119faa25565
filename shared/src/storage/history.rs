//! Reads stored messages. The query itself leaves out what the user may not see, so that no check can be forgotten or out of
//! date.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use crate::blocking::block_in_place_if_large;
use crate::domain::{MessageId, RoomId, Seq, StoredMessage, UserId};

/// Connections for pages of history alone. Clients that read much history take none from logins, posts and the watch for
/// revocations.
pub const HISTORY_CONNECTIONS: usize = 4;

/// A part of a room's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// The newest messages below this seq.
    Before(Seq),
    /// The oldest messages above this seq.
    After(Seq),
    /// The newest messages between two seqs, both excluded.
    Between(Seq, Seq),
    /// The message with this id.
    Only(MessageId),
}

impl Window {
    /// The seqs between which the window lies, both excluded, and whether a page is filled from the lower end. `only` is the seq
    /// of the message in [`Window::Only`].
    pub(super) fn bounds(self, only: Option<Seq>) -> (Seq, Seq, bool) {
        let end = Seq(i64::MAX);
        match (self, only) {
            (Self::Before(before), _) => (Seq::ZERO, before, false),
            (Self::After(after), _) => (after, end, true),
            (Self::Between(after, before), _) => (after, before, false),
            (Self::Only(_), Some(seq)) => (Seq(seq.0 - 1), seq.next(), false),
            (Self::Only(_), None) => (end, end, false),
        }
    }
}

/// A page of a room's history, whose messages are left out if the caller has them.
pub struct HistoryPage {
    /// The last seq of the room when the page was read.
    pub head: Seq,
    /// The messages, ascending by seq; `None` if the head shows that the caller has them.
    pub messages: Option<Vec<StoredMessage>>,
}

/// The message that is stored under an id, to compare with when an idempotency key is used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// Its seq.
    pub seq: Seq,
    /// The room it was posted to.
    pub room: RoomId,
    /// Its text.
    pub text: String,
    /// The name of the room.
    pub room_name: String,
    /// Whether the room is deleted.
    pub room_is_deleted: bool,
}

impl HistoryPage {
    /// Converts the row that both databases return: the head, and an array of messages in JSON.
    ///
    /// It is one row instead of one per message, because with SQLite, handing a row from its thread to ours costs more than
    /// reading it.
    pub(super) fn from_row((head, json): (i64, Option<String>)) -> Result<Self, sqlx::Error> {
        Ok(Self {
            head: Seq(head),
            messages: json.as_deref().map(decode_messages).transpose()?,
        })
    }
}

/// The row of a [`KnownMessage`]: id, seq, room, text, name of the room, and whether the room is deleted.
pub(super) type KnownRow = (Uuid, i64, i64, String, String, bool);

/// Converts rows of known messages.
pub(super) fn decode_known(rows: Vec<KnownRow>) -> HashMap<MessageId, KnownMessage> {
    let read = |(id, seq, room, text, room_name, room_is_deleted): KnownRow| {
        let known = KnownMessage {
            seq: Seq(seq),
            room: RoomId(room),
            text,
            room_name,
            room_is_deleted,
        };
        (MessageId(id), known)
    };
    rows.into_iter().map(read).collect()
}

/// The first and the last of the `known` heads, as the statements compare the head with them. Without any, they form an empty
/// range.
pub(super) fn known_heads(known: Option<RangeInclusive<Seq>>) -> (Seq, Seq) {
    known.map_or((Seq(1), Seq::ZERO), RangeInclusive::into_inner)
}

/// Parses an array of messages and sorts it by seq. Each message is an object, or an array in the order of the fields of
/// [`StoredMessage`], which is shorter.
pub(super) fn decode_messages(json: &str) -> Result<Vec<StoredMessage>, sqlx::Error> {
    let read = || serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()));
    let mut messages: Vec<StoredMessage> = block_in_place_if_large(json.len(), read)?;
    messages.sort_by_key(|message| message.seq);
    Ok(messages)
}

/// Stored messages.
#[async_trait]
pub trait History {
    /// A page of at most `limit` messages of `room` within `window`; `None` unless the room exists, and is public or `user` is
    /// in it. Without a `user` it is what anybody may see. The messages are left out if the room's head is in `known`.
    async fn history_page(
        &self,
        room: RoomId,
        user: Option<UserId>,
        window: Window,
        limit: u32,
        known: Option<RangeInclusive<Seq>>,
    ) -> Result<Option<HistoryPage>, StoreError>;

    /// At most `limit` messages of `room` above `after`, the oldest first. It does not check who may see them: it is for streams,
    /// whose memberships are watched elsewhere.
    async fn messages_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<StoredMessage>, StoreError>;

    /// The last seq of `room`; [`Seq::ZERO`] if it has no messages.
    async fn head(&self, room: RoomId) -> Result<Seq, StoreError>;

    /// The messages of those `ids` that are stored.
    async fn known_messages(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, KnownMessage>, StoreError>;

    /// The seqs of those `ids` that are stored.
    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError>;
}
