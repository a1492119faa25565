//! What the worker does in SQL: it claims partitions and commits the accept-log entries that it read from them.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::StoreError;
use crate::domain::{
    Accepted, AcceptedChange, ChangeRequest, Command, Fence, LogEntryId, MessageId, OutboxHint, Outcome, Partition,
    RoomEntry, RoomId, Seq, Timestamp,
};

/// A claimed partition: which ownership it is, and where to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: Partition,
    /// The fence of this ownership.
    pub fence: Fence,
    /// Everything up to and including this position is stored.
    pub cursor: LogEntryId,
}

/// An entry of the accept log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its position in the stream.
    pub log_entry_id: LogEntryId,
    /// Its content.
    pub content: EntryContent,
}

/// The content of an entry.
#[derive(Debug, Clone)]
pub enum EntryContent {
    /// A message to be stored.
    Message(Accepted),
    /// A change to be decided, and to be stored if it is allowed.
    Change(AcceptedChange),
    /// A hint that the outbox has rows, which are to be stored here.
    Outbox(OutboxHint),
    /// Something that can never be stored and goes to the dead letters.
    DeadLetter {
        /// Why not.
        reason: String,
        /// The whole entry as JSON.
        entry: String,
    },
}

/// Consecutive entries of one partition, to be stored in this order.
#[derive(Debug, Clone)]
pub struct PartitionBatch {
    /// The claim under which they were read. Its cursor is the position before them.
    pub claim: Claim,
    /// The entries, ascending by log entry id; never empty.
    pub entries: Vec<Entry>,
}

impl PartitionBatch {
    /// The cursor after the batch. A cursor never moves back, even if the entries lie below it.
    #[must_use]
    pub fn upto(&self) -> LogEntryId {
        let last = self.entries.last().map(|entry| entry.log_entry_id);
        last.unwrap_or_default().max(self.claim.cursor)
    }
}

/// The result of a commit.
#[derive(Default)]
pub struct Committed {
    /// The new entries, by room.
    pub rooms: Vec<RoomEntries>,
    /// Messages that were stored before, with the seq that each one has. They were not stored again.
    pub duplicates: Vec<(MessageId, Seq)>,
    /// What became of each change, and of messages that were refused.
    pub outcomes: Vec<(MessageId, Outcome)>,
    /// How many entries went to the dead letters and were not there before.
    pub dead_letters: u64,
}

/// New entries of the log of one room.
pub struct RoomEntries {
    /// The partition of the room.
    pub partition: Partition,
    /// The room.
    pub room: RoomId,
    /// The entries, ascending by seq.
    pub entries: Vec<RoomEntry>,
}

/// Why a commit failed. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The claims of these partitions are out of date: another worker has claimed them since, or an earlier commit of this
    /// worker, whose reply was lost, has moved the cursor.
    #[error("the claims no longer hold")]
    StaleClaims(Vec<Partition>),
    /// Storage failed, or refused the data ([`StoreError::is_rejection`]).
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError(error))
    }
}

/// The claims and commits of the worker.
#[async_trait]
pub trait Commits {
    /// Claims `partitions` for `owner`. Commits of their previous owners are refused from then on.
    ///
    /// A commit that a previous owner has begun is waited for. If that owner is gone or stuck, the server or this call ends
    /// its transaction.
    async fn claim(&self, partitions: &[Partition], owner: &str) -> Result<Vec<Claim>, StoreError>;

    /// The current fence of every partition, ascending by partition. An ownership with a lower fence has ended.
    async fn fences(&self) -> Result<Vec<(Partition, Fence)>, StoreError>;

    /// Stores `batches` and moves their cursors in one transaction.
    ///
    /// `before_commit` runs inside the transaction after everything is written.
    async fn commit(
        &self,
        batches: Arc<[PartitionBatch]>,
        now: Timestamp,
        before_commit: BoxFuture<'static, ()>,
    ) -> Result<Committed, CommitError>;
}

/// A row of `cursors`: partition, fence, and the two parts of the position.
pub(super) type ClaimRow = (i64, i64, i64, i64);

/// Converts rows of `cursors` to claims, ascending by partition.
pub(super) fn decode_claims(rows: Vec<ClaimRow>) -> Result<Vec<Claim>, sqlx::Error> {
    let read = |(partition, fence, ms, counter): ClaimRow| {
        Ok(Claim {
            partition: decode_partition(partition)?,
            fence: Fence(fence),
            cursor: LogEntryId { ms, counter },
        })
    };
    let mut claims = rows.into_iter().map(read).collect::<Result<Vec<_>, sqlx::Error>>()?;
    claims.sort_unstable_by_key(|claim| claim.partition);
    Ok(claims)
}

/// Converts rows of partitions and fences.
pub(super) fn decode_fences(rows: Vec<(i64, i64)>) -> Result<Vec<(Partition, Fence)>, sqlx::Error> {
    rows.into_iter()
        .map(|(partition, fence)| Ok((decode_partition(partition)?, Fence(fence))))
        .collect()
}

fn decode_partition(number: i64) -> Result<Partition, sqlx::Error> {
    u16::try_from(number).map(Partition).map_err(|error| sqlx::Error::Decode(error.into()))
}

impl From<Command> for EntryContent {
    fn from(command: Command) -> Self {
        match command {
            Command::Message(message) => Self::Message(message),
            Command::Change(change) => Self::Change(change),
            Command::Outbox(hint) => Self::Outbox(hint),
        }
    }
}

impl Entry {
    /// How many bytes storing the entry takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.content {
            EntryContent::Message(message) => message.text.as_str().len(),
            EntryContent::Change(change) => match &change.request {
                ChangeRequest::Edit { text, .. } => text.as_str().len(),
                ChangeRequest::Delete { .. } | ChangeRequest::React { .. } => 0,
            },
            EntryContent::Outbox(_) => 0,
            EntryContent::DeadLetter { entry, .. } => entry.len(),
        }
    }

    /// The entry as a dead letter for `reason`. A dead letter keeps its own reason.
    #[must_use]
    pub fn into_dead_letter(self, reason: &str) -> Self {
        let dead = |entry| EntryContent::DeadLetter {
            reason: reason.to_owned(),
            entry,
        };
        let content = match self.content {
            EntryContent::Message(message) => dead(message_to_json(&message)),
            EntryContent::Change(change) => dead(change_to_json(&change)),
            EntryContent::Outbox(OutboxHint { room, upto }) => {
                dead(json!({"kind": "outbox", "room": room, "upto": upto}).to_string())
            }
            dead @ EntryContent::DeadLetter { .. } => dead,
        };
        Self { content, ..self }
    }
}

/// The whole message as JSON, from which an operator can judge it and have it stored after all.
pub(super) fn message_to_json(message: &Accepted) -> String {
    let mut entry = json!({
        "id": message.id,
        "room": message.room,
        "sender": message.sender,
        "text": message.text.as_str(),
        "at": message.created_on,
    });
    if let Some(id) = message.in_reply_to {
        entry["in_reply_to"] = json!(id);
    }
    if !message.mentions.is_empty() {
        entry["mentions"] = json!(message.mentions.iter().map(|user| user.0.to_string()).collect::<Vec<_>>().join(","));
    }
    entry.to_string()
}

/// The whole change as JSON, with the fields of its entry.
pub(super) fn change_to_json(change: &AcceptedChange) -> String {
    let fields = change.fields().into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
    Value::Object(fields.collect()).to_string()
}
