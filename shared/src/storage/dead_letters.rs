//! What could not be stored, for an operator to look at.

use async_trait::async_trait;
use sqlx::FromRow;

use super::StoreError;
use crate::domain::{Partition, Timestamp};

/// An entry of the accept log that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Row id; later ones are larger, and none is used again.
    pub id: i64,
    /// The partition it came through.
    pub partition: Partition,
    /// Its place in the stream.
    pub stream_id: String,
    /// Why it was not stored.
    pub reason: String,
    /// All that was in it, as JSON.
    pub entry: String,
    /// When it was set aside.
    pub created_on: Timestamp,
}

/// A row that holds a [`DeadLetter`].
#[derive(FromRow)]
pub(super) struct DeadLetterRow {
    id: i64,
    partition: i64,
    stream_id: String,
    reason: String,
    entry: String,
    created_on: i64,
}

impl TryFrom<DeadLetterRow> for DeadLetter {
    type Error = sqlx::Error;

    fn try_from(row: DeadLetterRow) -> Result<Self, Self::Error> {
        let partition = u16::try_from(row.partition).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Self {
            id: row.id,
            partition: Partition(partition),
            stream_id: row.stream_id,
            reason: row.reason,
            entry: row.entry,
            created_on: Timestamp(row.created_on),
        })
    }
}

/// What can be done with dead letters.
#[async_trait]
pub trait DeadLetters {
    /// Dead letters, the oldest first, from the one behind `after`, at most `limit`.
    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// The dead letter with this id.
    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError>;

    /// Removes a dead letter for good; false if there is none with this id.
    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError>;
}
