//! Positions of heads.

use async_trait::async_trait;

use super::Sqlite;
use super::json_list::json_list;
use crate::domain::{Partition, Position};
use crate::storage::head_positions::{
    FoundPosition, HeadWithoutPosition, PositionBackfill, block_of, decode_partition,
};
use crate::storage::sql::head_positions as sql;
use crate::storage::{HeadPositions, MovedHead, StoreError, run_detached};

/// The partitions are few, so each is a range of the index.
pub const MOVED_HEADS: &str = "SELECT h.room_id, h.seq, h.partition, h.position
     FROM json_each($1) j CROSS JOIN room_heads h
          ON h.partition = j.value ->> 0 AND h.block >= j.value ->> 2 AND h.position > j.value ->> 1
     ORDER BY h.partition, h.position LIMIT +$2";

#[async_trait]
impl HeadPositions for Sqlite {
    async fn last_positions(&self, partitions: &[Partition]) -> Result<Vec<(Partition, Position)>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT j.value, COALESCE((SELECT max(h.position) FROM room_heads h WHERE h.partition = j.value AND h.block =
                                       (SELECT max(b.block) FROM room_heads b WHERE b.partition = j.value)), 0)
             FROM json_each($1) j",
        )
        .bind(json_list(partitions)?)
        .fetch_all(&self.read)
        .await?;
        let read = |(partition, position)| Ok((decode_partition(partition)?, Position(position)));
        Ok(rows.into_iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }

    async fn moved_heads(&self, after: &[(Partition, Position)], limit: u32) -> Result<Vec<MovedHead>, StoreError> {
        let after = after.iter().map(|(partition, position)| (partition, position.0, block_of(position.0)));
        let rows = sqlx::query_as(MOVED_HEADS).bind(json_list(after)?).bind(limit).fetch_all(&self.read).await?;
        Ok(rows.into_iter().map(MovedHead::from_row).collect::<Result<_, sqlx::Error>>()?)
    }
}

impl PositionBackfill for Sqlite {
    async fn heads_without_position(&self, after: i64, limit: u32) -> Result<Vec<HeadWithoutPosition>, StoreError> {
        let query = sqlx::query_as(sql::LIST_HEADS_WITHOUT_POSITION).bind(after).bind(limit);
        Ok(query.fetch_all(&self.read).await?)
    }

    async fn set_positions(&self, heads: &[FoundPosition]) -> Result<(), StoreError> {
        let pool = self.write.clone();
        let rows = heads
            .iter()
            .map(|(room, seq, partition, Position(position))| (room, seq, partition, position, block_of(*position)));
        let rows = json_list(rows)?;
        run_detached(async move {
            sqlx::query(
                "UPDATE room_heads SET partition = j.value ->> 2, position = j.value ->> 3, block = j.value ->> 4
                 FROM json_each($1) j WHERE room_id = j.value ->> 0 AND seq = j.value ->> 1 AND partition IS NULL",
            )
            .bind(rows)
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }
}
