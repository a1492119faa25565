//! Finds the rooms whose heads moved, by the positions of their last entries: it costs what moved, and nothing for other rooms.
//!
//! The commit that moves a head writes its position. Heads that an earlier release has written get theirs here, when the program
//! starts: SQL cannot compute the partition of a room. If every head has its position, nothing is written.

use async_trait::async_trait;
use tracing::info;

use super::{Installation, StoreError};
use crate::domain::{Partition, Position, RoomId, Seq};

/// Positions of a block. The fewer they are, the fewer heads a search reads that have not moved since; the more, the fewer
/// commits change an indexed column, for which Postgres writes an entry into each index of the table.
const BLOCK: i64 = 1_024;

/// Heads that are given their positions at once.
const PAGE: u32 = 500;

/// A head that moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedHead {
    /// The room.
    pub room: RoomId,
    /// Its last seq.
    pub seq: Seq,
    /// Its partition.
    pub partition: Partition,
    /// The position of its last entry.
    pub position: Position,
}

impl MovedHead {
    /// Converts the row that both databases return.
    pub(super) fn from_row((room, seq, partition, position): (i64, i64, i64, i64)) -> Result<Self, sqlx::Error> {
        Ok(Self {
            room: RoomId(room),
            seq: Seq(seq),
            partition: decode_partition(partition)?,
            position: Position(position),
        })
    }
}

/// The block of a position, by which heads are indexed.
pub(super) fn block_of(position: i64) -> i64 {
    position.div_euclid(BLOCK)
}

/// Converts a stored partition.
pub(super) fn decode_partition(stored: i64) -> Result<Partition, sqlx::Error> {
    let number = u16::try_from(stored).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Partition(number))
}

/// Positions of heads.
#[async_trait]
pub trait HeadPositions {
    /// The position of the last entry in each of `partitions`; 0 for one without entries.
    async fn last_positions(&self, partitions: &[Partition]) -> Result<Vec<(Partition, Position)>, StoreError>;

    /// The heads in each of the partitions that moved above the position beside it: at most `limit` in all, ascending by
    /// partition and position. If there are `limit` of them, others may follow: ask again, above the highest position
    /// returned for each partition.
    async fn moved_heads(&self, after: &[(Partition, Position)], limit: u32) -> Result<Vec<MovedHead>, StoreError>;
}

/// A head without a position: its room, its seq, and the position of the entry that has this seq.
pub(super) type HeadWithoutPosition = (i64, i64, Option<i64>);

/// A head's room and seq, and the partition and position to write.
pub(super) type FoundPosition = (RoomId, Seq, Partition, Position);

/// The statements that a back end adds to give earlier heads their positions.
pub(super) trait PositionBackfill {
    /// At most `limit` heads without a position, of rooms with an id above `after`, ascending.
    async fn heads_without_position(&self, after: i64, limit: u32) -> Result<Vec<HeadWithoutPosition>, StoreError>;

    /// Writes the positions of the heads that have not moved since, and have none.
    async fn set_positions(&self, heads: &[FoundPosition]) -> Result<(), StoreError>;
}

/// Gives every head its position. A head whose entry is missing gets 0, until it moves.
pub(super) async fn backfill_positions(
    store: &impl PositionBackfill,
    installation: &Installation,
) -> Result<(), StoreError> {
    let (mut after, mut written) = (0, 0);
    loop {
        let page = store.heads_without_position(after, PAGE).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.0;
        let found = page.into_iter().map(|(room, seq, position)| {
            let partition = installation.partition_of(RoomId(room));
            (RoomId(room), Seq(seq), partition, Position(position.unwrap_or(0)))
        });
        let found: Vec<FoundPosition> = found.collect();
        store.set_positions(&found).await?;
        written += found.len();
    }
    if written > 0 {
        info!(
            rooms.count = written,
            "gave {written} rooms of an earlier release the positions of their last entries"
        );
    }
    Ok(())
}
