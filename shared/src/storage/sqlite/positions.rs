//! Positions of entries.

use async_trait::async_trait;

use super::Sqlite;
use super::json_list::json_list;
use crate::domain::{Position, RoomId, Seq};
use crate::storage::positions::decode_seqs;
use crate::storage::sql::positions::seqs_at;
use crate::storage::{HorizonSample, Positions, StoreError};

const SEQS_AT: &str = seqs_at!("(SELECT j.value AS room_id FROM json_each($1) j) t");

#[async_trait]
impl Positions for Sqlite {
    async fn seqs_at(&self, rooms: &[RoomId], position: Position) -> Result<Vec<(RoomId, Seq)>, StoreError> {
        let rows = sqlx::query_as(SEQS_AT).bind(json_list(rooms)?).bind(position.0).fetch_all(&self.read).await?;
        Ok(decode_seqs(rows))
    }

    /// The file has one writer, so what is committed is all that was taken.
    async fn horizon_sample(&self) -> Result<HorizonSample, StoreError> {
        let last = sqlx::query_scalar(
            "SELECT max(COALESCE((SELECT max(position) FROM messages), 0),
                        COALESCE((SELECT max(position) FROM changes), 0))",
        );
        Ok(HorizonSample {
            last: Position(last.fetch_one(&self.read).await?),
            next_transaction: 0,
            oldest_transaction: 0,
        })
    }
}
