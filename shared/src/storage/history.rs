//! Reading stored messages. What a user may not see is left out by the query itself, not by a check before it.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use uuid::Uuid;

use super::StoreError;
use crate::domain::{MessageId, RoomId, Seq, StoredMessage, UserId};

/// Connections that pages of history, and nothing else, are read with: whoever reads much of it takes none from logging in,
/// posting and the watch over who may still read.
pub const HISTORY_CONNECTIONS: usize = 4;

/// Which part of a room's history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Window {
    /// The seqs between which the window lies, both excluded, and whether it is filled from the lower end. `only` is the seq
    /// of the message a window is for.
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

/// A part of a room's history that the caller may have already.
pub struct HistoryPage {
    /// Last seq of the room when it was read.
    pub head: Seq,
    /// The messages, with ascending seqs; `None` if the head shows that the caller has them.
    pub messages: Option<Vec<StoredMessage>>,
}

/// What is stored under a message id; compared when an idempotency key is used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// Its place in the room.
    pub seq: Seq,
    /// The room it was posted to.
    pub room: RoomId,
    /// What was posted.
    pub text: String,
    /// What its room is called, or was.
    pub room_name: String,
    /// Whether its room was deleted.
    pub room_is_deleted: bool,
}

impl HistoryPage {
    /// Reads the head and the messages as both databases hand them over: one row with an array of messages in JSON.
    ///
    /// One row instead of one row a message: with SQLite, handing a row from its thread to ours costs more than reading it.
    pub(super) fn from_row((head, json): (i64, Option<String>)) -> Result<Self, sqlx::Error> {
        Ok(Self {
            head: Seq(head),
            messages: json.as_deref().map(decode_messages).transpose()?,
        })
    }
}

/// A message that is looked up by its id: the id, its place, its room, its text, the name of the room, and whether that was deleted.
pub(super) type KnownRow = (Uuid, i64, i64, String, String, bool);

/// Reads such messages.
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

/// The first and the last seq of what is `known`, as both statements compare the head with them.
pub(super) fn known_heads(known: Option<RangeInclusive<Seq>>) -> (Seq, Seq) {
    known.map_or((Seq(1), Seq::ZERO), RangeInclusive::into_inner)
}

/// Bytes of messages up to which it is quicker to read or write them where we are than to make way for others.
const LARGE: usize = 128 * 1024;

/// Does `work` on `bytes` of messages. If they are many, the thread makes way for others first: a page of the longest
/// messages takes milliseconds, in which nobody's post would get on.
#[expect(
    clippy::disallowed_methods,
    reason = "it is asked only on a runtime of several threads, where it does not panic"
)]
pub fn block_in_place_if_large<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if bytes > LARGE && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        block_in_place(work)
    } else {
        work()
    }
}

/// Reads an array of messages, into the order of their seqs. Each is an object, or an array in the order of the fields of
/// [`StoredMessage`], which is shorter.
pub(super) fn decode_messages(json: &str) -> Result<Vec<StoredMessage>, sqlx::Error> {
    let read = || serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()));
    let mut messages: Vec<StoredMessage> = block_in_place_if_large(json.len(), read)?;
    messages.sort_by_key(|message| message.seq);
    Ok(messages)
}

/// What is known of stored messages.
#[async_trait]
pub trait History {
    /// At most `limit` messages of `room` within `window`, as `user` may see them: `None` unless the room exists and is
    /// public, or `user` is in it. Without a `user` it is what anybody may see. The messages are left out if the room's head
    /// is in `known`.
    async fn history_page(
        &self,
        room: RoomId,
        user: Option<UserId>,
        window: Window,
        limit: u32,
        known: Option<RangeInclusive<Seq>>,
    ) -> Result<Option<HistoryPage>, StoreError>;

    /// The oldest messages of `room` above `after`, at most `limit`, whoever they are for: for what is handed on to readers
    /// whose membership is watched over elsewhere.
    async fn messages_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<StoredMessage>, StoreError>;

    /// Last seq of `room`; [`Seq::ZERO`] if it has no messages.
    async fn head(&self, room: RoomId) -> Result<Seq, StoreError>;

    /// What is stored under those of `ids` that are stored.
    async fn known_messages(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, KnownMessage>, StoreError>;

    /// The places of those of `ids` that are stored.
    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError>;
}
