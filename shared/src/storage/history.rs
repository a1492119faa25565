//! Reads stored messages. The query itself leaves out what the user may not see, so that no check can be forgotten or out of
//! date.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::StoreError;
use super::commit_plan::decode_extra;
use super::commit_statements::{ReactionDetail, kind};
use super::outbox::decode_unaddressed;
use crate::blocking::block_in_place_if_large;
use crate::domain::{
    Change, MessageExtra, MessageId, RoomEntry, RoomId, Seq, StoredChange, StoredMessage, Timestamp, UserId,
};

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
    /// The messages around this seq, half of them below it.
    Around(Seq),
}

impl Window {
    /// The seqs between which the window lies, both excluded, and whether a page is filled from the lower end. `first` is the seq
    /// of the message in [`Window::Only`], or the lowest of the page in [`Window::Around`].
    pub(super) fn bounds(self, first: Option<Seq>) -> (Seq, Seq, bool) {
        let end = Seq(i64::MAX);
        match (self, first) {
            (Self::Before(before), _) => (Seq::ZERO, before, false),
            (Self::After(after), _) => (after, end, true),
            (Self::Between(after, before), _) => (after, before, false),
            (Self::Only(_), Some(seq)) => (Seq(seq.0 - 1), seq.next(), false),
            (Self::Only(_), None) => (end, end, false),
            (Self::Around(seq), first) => (Seq((first.unwrap_or(seq).0 - 1).max(0)), end, true),
        }
    }
}

/// A page of a room's history, whose messages are left out if the caller has them.
pub struct HistoryPage {
    /// The head of the room when the page was read.
    pub head: RoomHead,
    /// The messages, ascending by seq; `None` if the head shows that the caller has them.
    pub messages: Option<Vec<StoredMessage>>,
}

/// The head of a room's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomHead {
    /// The last seq.
    pub seq: Seq,
    /// The seq of the last entry that altered a message. What was read of the room's messages before may be out of date.
    pub changed: Seq,
}

impl RoomHead {
    /// The head of a room in which no message was altered.
    #[must_use]
    pub fn unaltered(seq: Seq) -> Self {
        let changed = Seq::ZERO;
        Self { seq, changed }
    }

    pub(super) fn from_row((seq, changed): (i64, i64)) -> Self {
        Self {
            seq: Seq(seq),
            changed: Seq(changed),
        }
    }
}

/// A page that the caller has: it is what history holds if the room's head is in the range and no message was altered since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPage {
    /// The last seqs at which the room has the page.
    pub heads: RangeInclusive<Seq>,
    /// The last entry that altered a message when it was read.
    pub changed: Seq,
}

/// The message that is stored under an id, to compare with when an idempotency key is used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// Its seq.
    pub seq: Seq,
    /// The room it was posted to.
    pub room: RoomId,
    /// Its text now.
    text: String,
    /// What else it has.
    extra: Option<Box<MessageExtra>>,
    /// The name of the room.
    pub room_name: String,
    /// Whether the room is deleted.
    pub room_is_deleted: bool,
}

impl KnownMessage {
    /// Whether it was posted with `text`, also if its text was changed or deleted since.
    #[must_use]
    pub fn was_posted_with(&self, text: &str) -> bool {
        self.extra
            .as_ref()
            .map_or_else(|| self.text == text, |extra| extra.was_posted_with(text, &self.text))
    }
}

impl HistoryPage {
    /// Converts the row that both databases return.
    pub(super) fn from_row((seq, changed, _, json): PageRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            head: RoomHead {
                seq: Seq(seq),
                changed: Seq(changed),
            },
            messages: json.as_deref().map(decode_messages).transpose()?,
        })
    }
}

/// The row of a page: the two seqs of the head, the number of entries that are not messages, and an array of messages in JSON.
///
/// It is one row instead of one per message, because with SQLite, handing a row from its thread to ours costs more than
/// reading it.
pub(super) type PageRow = (i64, i64, i64, Option<String>);

/// The row of a [`KnownMessage`]: id, seq, room, text, extra, name of the room, and whether the room is deleted.
pub(super) type KnownRow = (Uuid, i64, i64, String, Option<String>, String, bool);

/// Converts rows of known messages.
pub(super) fn decode_known(rows: Vec<KnownRow>) -> Result<HashMap<MessageId, KnownMessage>, sqlx::Error> {
    let read = |(id, seq, room, text, extra, room_name, room_is_deleted): KnownRow| {
        let known = KnownMessage {
            seq: Seq(seq),
            room: RoomId(room),
            text,
            extra: decode_extra(extra.as_deref())?,
            room_name,
            room_is_deleted,
        };
        Ok((MessageId(id), known))
    };
    rows.into_iter().map(read).collect()
}

/// The `known` page as the statements compare it with the head: the first and the last of its heads, and the last entry that
/// altered a message. Without any, they form an empty range.
pub(super) fn known_heads(known: Option<KnownPage>) -> (Seq, Seq, Seq) {
    known.map_or((Seq(1), Seq::ZERO, Seq::ZERO), |known| {
        let (first, last) = known.heads.into_inner();
        (first, last, known.changed)
    })
}

/// Messages on either side of the middle of a page around a seq.
pub(super) fn below_middle(limit: u32) -> u32 {
    limit / 2
}

/// Parses an array of messages and sorts it by seq. Each message is an object, or an array in the order of the fields of
/// [`StoredMessage`], which is shorter.
pub(super) fn decode_messages(json: &str) -> Result<Vec<StoredMessage>, sqlx::Error> {
    let read = || serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()));
    let mut messages: Vec<StoredMessage> = block_in_place_if_large(json.len(), read)?;
    messages.sort_by_key(|message| message.seq);
    Ok(messages)
}

/// Converts rows of a room and an array of its messages.
pub(super) fn decode_messages_of_rooms(
    rows: Vec<(i64, String)>,
) -> Result<HashMap<RoomId, Vec<StoredMessage>>, sqlx::Error> {
    rows.into_iter().map(|(room, json)| Ok((RoomId(room), decode_messages(&json)?))).collect()
}

/// A change as the statements return it, in an array.
#[derive(Deserialize)]
struct ChangeRecord {
    seq: Seq,
    username: String,
    public_id: String,
    created_on: Timestamp,
    kind: String,
    target: Option<MessageId>,
    target_seq: Option<Seq>,
    detail: Value,
    /// Of the message that an edit is about.
    text: Option<String>,
    /// Name of the user that it is about.
    member: Option<String>,
}

/// Parses arrays of messages and of changes, and merges the first `limit` of both by seq.
pub(super) fn decode_entries(messages: &str, changes: &str, limit: u32) -> Result<Vec<RoomEntry>, sqlx::Error> {
    let messages = decode_messages(messages)?.into_iter().map(RoomEntry::Message);
    if changes == "[]" {
        return Ok(messages.collect());
    }
    let records: Vec<ChangeRecord> =
        serde_json::from_str(changes).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let changes = records.into_iter().map(|record| decode_change(record).map(RoomEntry::Change));
    let mut entries = changes.collect::<Result<Vec<_>, _>>()?;
    entries.extend(messages);
    entries.sort_unstable_by_key(RoomEntry::seq);
    entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(entries)
}

fn decode_change(record: ChangeRecord) -> Result<StoredChange, sqlx::Error> {
    let change = match (record.kind.as_str(), record.target.zip(record.target_seq)) {
        (kind::EDIT, Some((target, target_seq))) => Change::Edit {
            target,
            target_seq,
            text: record.text.unwrap_or_default(),
        },
        (kind::DELETE, Some((target, target_seq))) => Change::Delete { target, target_seq },
        (kind::REACTION, Some((target, target_seq))) => {
            let detail = serde_json::from_value(record.detail).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let ReactionDetail { emoji, on, count } = detail;
            Change::Reaction {
                target,
                target_seq,
                emoji,
                on,
                count,
            }
        }
        (kind, _) => decode_unaddressed(kind, record.detail, record.member)?,
    };
    Ok(StoredChange {
        seq: record.seq,
        username: record.username,
        public_id: record.public_id,
        created_on: record.created_on,
        change,
    })
}

/// Stored messages and changes.
#[async_trait]
pub trait History {
    /// A page of at most `limit` messages of `room` within `window`; `None` unless the room exists, and is public or `user` is
    /// in it. Without a `user` it is what anybody may see. The messages are left out if the caller has them as `known`.
    async fn history_page(
        &self,
        room: RoomId,
        user: Option<UserId>,
        window: Window,
        limit: u32,
        known: Option<KnownPage>,
    ) -> Result<Option<HistoryPage>, StoreError>;

    /// At most `limit` entries of the log of `room` above `after`, the oldest first. It does not check who may see them: it is
    /// for streams, whose memberships are watched elsewhere.
    async fn entries_after(&self, room: RoomId, after: Seq, limit: u32) -> Result<Vec<RoomEntry>, StoreError>;

    /// At most `limit` replies above `after` to the message `to` of `room`, the oldest first; `None` unless the room exists, is
    /// public or `user` is in it, and has the message.
    async fn replies(
        &self,
        (room, to): (RoomId, MessageId),
        user: UserId,
        after: Seq,
        limit: u32,
    ) -> Result<Option<Vec<StoredMessage>>, StoreError>;

    /// The newest messages of each of `rooms`, at most `each`, ascending by seq. It does not check who may see them.
    async fn newest_messages(
        &self,
        rooms: &[RoomId],
        each: u32,
    ) -> Result<HashMap<RoomId, Vec<StoredMessage>>, StoreError>;

    /// The head of `room`, all zero if its log is empty.
    async fn head(&self, room: RoomId) -> Result<RoomHead, StoreError>;

    /// The messages of those `ids` that are stored.
    async fn known_messages(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, KnownMessage>, StoreError>;

    /// The seqs of those `ids` that are stored, of messages and of changes.
    async fn stored_seqs(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Seq>, StoreError>;
}
