//! The worker's side: taking over partitions and committing what was read from them.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::StoreError;
use crate::domain::{Accepted, Fence, MessageId, Partition, RoomId, Seq, StoredMessage, StreamId, Timestamp};

/// A partition taken over by a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: Partition,
    /// The number of this ownership.
    pub fence: Fence,
    /// Up to here everything is stored.
    pub cursor: StreamId,
}

/// An entry of the accept log as it was read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place in the stream.
    pub stream_id: StreamId,
    /// What it holds.
    pub content: EntryContent,
}

/// What an entry holds.
#[derive(Debug, Clone)]
pub enum EntryContent {
    /// A message to be stored.
    Message(Accepted),
    /// Something that can never be stored: it goes to the dead letters.
    DeadLetter {
        /// Why not.
        reason: String,
        /// All that was in it, as JSON.
        entry: String,
    },
}

/// Consecutive entries of one partition, to be stored in their order.
#[derive(Debug, Clone)]
pub struct PartitionBatch {
    /// The ownership under which they were read, with the position before them.
    pub claim: Claim,
    /// The entries, ascending by stream id; never empty.
    pub entries: Vec<Entry>,
}

impl PartitionBatch {
    /// The position behind the batch. A cursor never moves back, even over entries that lie below it.
    #[must_use]
    pub fn upto(&self) -> StreamId {
        let last = self.entries.last().map(|entry| entry.stream_id);
        last.unwrap_or_default().max(self.claim.cursor)
    }
}

/// What a commit stored.
#[derive(Default)]
pub struct Committed {
    /// New messages by room, in the order of their seqs.
    pub rooms: Vec<(Partition, RoomId, Vec<StoredMessage>)>,
    /// Entries that were stored before and are left out, with the place each one has.
    pub duplicates: Vec<(MessageId, Seq)>,
    /// Entries that went to the dead letters and were not there before.
    pub dead_letters: u64,
}

/// Why a batch was not stored. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The claims of these partitions of the batch do not hold: another worker has claimed them since, or the cursor has
    /// moved on, by an earlier commit of this worker whose reply was lost.
    #[error("the claims do not hold any more")]
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

/// What the worker keeps of the accept log.
#[async_trait]
pub trait Commits {
    /// Takes over `partitions` for `owner`: whoever had one can no longer commit to it.
    ///
    /// Waits for a commit of the old owner that is under way. If that owner is not there any more, or does not go on, its
    /// transaction is ended, by the server or by us.
    async fn claim(&self, partitions: &[Partition], owner: &str) -> Result<Vec<Claim>, StoreError>;

    /// The fence of every partition, ascending by partition: an ownership with a smaller number is over.
    async fn fences(&self) -> Result<Vec<(Partition, Fence)>, StoreError>;

    /// Stores `batches` and moves their cursors, all in one transaction or not at all.
    ///
    /// `before_commit` runs inside the transaction when everything is written.
    async fn commit(
        &self,
        batches: Arc<[PartitionBatch]>,
        now: Timestamp,
        before_commit: BoxFuture<'static, ()>,
    ) -> Result<Committed, CommitError>;
}

/// A row of `cursors`: partition, fence, and the position in two parts.
pub(super) type ClaimRow = (i64, i64, i64, i64);

/// Reads rows of `cursors`, ascending by partition.
pub(super) fn decode_claims(rows: Vec<ClaimRow>) -> Result<Vec<Claim>, sqlx::Error> {
    let read = |(partition, fence, ms, counter): ClaimRow| {
        Ok(Claim {
            partition: decode_partition(partition)?,
            fence: Fence(fence),
            cursor: StreamId { ms, counter },
        })
    };
    let mut claims = rows.into_iter().map(read).collect::<Result<Vec<_>, sqlx::Error>>()?;
    claims.sort_unstable_by_key(|claim| claim.partition);
    Ok(claims)
}

/// Reads partitions with their fences.
pub(super) fn decode_fences(rows: Vec<(i64, i64)>) -> Result<Vec<(Partition, Fence)>, sqlx::Error> {
    rows.into_iter()
        .map(|(partition, fence)| Ok((decode_partition(partition)?, Fence(fence))))
        .collect()
}

fn decode_partition(number: i64) -> Result<Partition, sqlx::Error> {
    u16::try_from(number).map(Partition).map_err(|error| sqlx::Error::Decode(error.into()))
}

impl Entry {
    /// The message, if it is one.
    pub(super) fn message(&self) -> Option<&Accepted> {
        match &self.content {
            EntryContent::Message(message) => Some(message),
            EntryContent::DeadLetter { .. } => None,
        }
    }

    /// About how many bytes storing the entry takes.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.content {
            EntryContent::Message(message) => message.text.as_str().len(),
            EntryContent::DeadLetter { entry, .. } => entry.len(),
        }
    }

    /// The entry as a dead letter for `reason`, whatever it held.
    #[must_use]
    pub fn into_dead_letter(self, reason: &str) -> Self {
        let content = match self.content {
            EntryContent::Message(message) => EntryContent::DeadLetter {
                reason: reason.to_owned(),
                entry: describe(&message),
            },
            dead @ EntryContent::DeadLetter { .. } => dead,
        };
        Self { content, ..self }
    }
}

/// All of a message as JSON, from which an operator can judge it and have it stored after all.
pub(super) fn describe(message: &Accepted) -> String {
    let entry = json!({
        "id": message.id,
        "room": message.room,
        "sender": message.sender,
        "text": message.text.as_str(),
        "at": message.created_on,
    });
    entry.to_string()
}
