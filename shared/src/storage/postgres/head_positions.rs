//! Positions of heads.

use async_trait::async_trait;

use super::{Postgres, run_detached, within_deadline};
use crate::domain::{Partition, Position};
use crate::storage::head_positions::{
    FoundPosition, HeadWithoutPosition, PositionBackfill, block_of, decode_partition,
};
use crate::storage::sql::head_positions as sql;
use crate::storage::{HeadPositions, MovedHead, StoreError};

/// The inner order and limit make each partition a range of the index: the planner cannot know that few heads are above a
/// position, and would read the whole table.
pub const MOVED_HEADS: &str = "SELECT h.room_id, h.seq, h.partition, h.position
     FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS t (partition, position, block)
     CROSS JOIN LATERAL (SELECT m.room_id, m.seq, m.partition, m.position FROM room_heads m
                         WHERE m.partition = t.partition AND m.block >= t.block AND m.position > t.position
                         ORDER BY m.block, m.position LIMIT $4) h
     ORDER BY h.partition, h.position LIMIT $4";

#[async_trait]
impl HeadPositions for Postgres {
    async fn last_positions(&self, partitions: &[Partition]) -> Result<Vec<(Partition, Position)>, StoreError> {
        let partitions: Vec<i64> = partitions.iter().map(|partition| i64::from(partition.0)).collect();
        let query = sqlx::query_as(
            "SELECT t.partition, COALESCE((SELECT max(h.position) FROM room_heads h WHERE h.partition = t.partition AND h.block =
                                           (SELECT max(b.block) FROM room_heads b WHERE b.partition = t.partition)), 0)
             FROM UNNEST($1::bigint[]) AS t (partition)",
        )
        .bind(partitions);
        let rows: Vec<(i64, i64)> = within_deadline(query.fetch_all(&self.pool)).await?;
        let read = |(partition, position)| Ok((decode_partition(partition)?, Position(position)));
        Ok(rows.into_iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }

    async fn moved_heads(&self, after: &[(Partition, Position)], limit: u32) -> Result<Vec<MovedHead>, StoreError> {
        let partitions: Vec<i64> = after.iter().map(|(partition, _)| i64::from(partition.0)).collect();
        let positions: Vec<i64> = after.iter().map(|(_, position)| position.0).collect();
        let blocks: Vec<i64> = positions.iter().copied().map(block_of).collect();
        let query = sqlx::query_as(MOVED_HEADS).bind(partitions).bind(positions).bind(blocks).bind(i64::from(limit));
        let rows = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(rows.into_iter().map(MovedHead::from_row).collect::<Result<_, sqlx::Error>>()?)
    }
}

impl PositionBackfill for Postgres {
    async fn heads_without_position(&self, after: i64, limit: u32) -> Result<Vec<HeadWithoutPosition>, StoreError> {
        let query = sqlx::query_as(sql::LIST_HEADS_WITHOUT_POSITION).bind(after).bind(i64::from(limit));
        Ok(within_deadline(query.fetch_all(&self.pool)).await?)
    }

    async fn set_positions(&self, heads: &[FoundPosition]) -> Result<(), StoreError> {
        let (pool, heads) = (self.pool.clone(), heads.to_vec());
        run_detached(async move {
            let rooms: Vec<i64> = heads.iter().map(|(room, ..)| room.0).collect();
            let seqs: Vec<i64> = heads.iter().map(|(_, seq, ..)| seq.0).collect();
            let partitions: Vec<i64> = heads.iter().map(|(_, _, partition, _)| i64::from(partition.0)).collect();
            let positions: Vec<i64> = heads.iter().map(|(.., position)| position.0).collect();
            let blocks: Vec<i64> = positions.iter().copied().map(block_of).collect();
            sqlx::query(
                "UPDATE room_heads SET partition = t.partition, position = t.position, block = t.block
                 FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                      AS t (room_id, seq, partition, position, block)
                 WHERE room_heads.room_id = t.room_id AND room_heads.seq = t.seq AND room_heads.partition IS NULL",
            )
            .bind(rooms)
            .bind(seqs)
            .bind(partitions)
            .bind(positions)
            .bind(blocks)
            .execute(&pool)
            .await?;
            Ok::<_, StoreError>(())
        })
        .await
    }
}
