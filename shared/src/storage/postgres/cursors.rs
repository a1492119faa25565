//! The rows of `cursors`, whose locks order claims and commits.

use sqlx::PgConnection;

use crate::domain::Partition;
use crate::storage::Claim;
use crate::storage::commit::{ClaimRow, decode_claims};

/// The numbers of partitions as SQL has them.
pub(super) fn numbers(partitions: &[Partition]) -> Vec<i64> {
    partitions.iter().map(|partition| i64::from(partition.0)).collect()
}

/// Locks the rows in ascending order, and reads them as of when they are locked.
pub(super) async fn lock_cursors(
    connection: &mut PgConnection,
    partitions: &[Partition],
) -> Result<Vec<Claim>, sqlx::Error> {
    let rows: Vec<ClaimRow> = sqlx::query_as(
        "SELECT partition, fence, stream_ms, stream_counter FROM cursors
         WHERE partition = ANY ($1) ORDER BY partition FOR UPDATE",
    )
    .bind(numbers(partitions))
    .fetch_all(connection)
    .await?;
    decode_claims(rows)
}
