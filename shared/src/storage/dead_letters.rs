//! Dead letters: entries of the accept log that could not be stored, kept for an operator.

use async_trait::async_trait;
use sqlx::FromRow;

use super::StoreError;
use crate::domain::{Partition, Timestamp};

/// An entry of the accept log that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Row id. Later ones are larger, and none is used again.
    pub id: i64,
    /// Its partition.
    pub partition: Partition,
    /// Its id in the accept log.
    pub log_entry_id: String,
    /// Why it could not be stored.
    pub reason: String,
    /// The whole entry as JSON.
    pub entry: String,
    /// When it was written to the dead letters.
    pub created_on: Timestamp,
}

/// The row of a [`DeadLetter`].
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
            log_entry_id: row.stream_id,
            reason: row.reason,
            entry: row.entry,
            created_on: Timestamp(row.created_on),
        })
    }
}

/// Dead letters.
#[async_trait]
pub trait DeadLetters {
    /// At most `limit` dead letters with an id above `after`, the oldest first.
    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// The dead letter with this id.
    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError>;

    /// Deletes a dead letter; false if there is none with this id.
    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError>;
}
