//! Positions of entries.

use async_trait::async_trait;

use super::{Postgres, within_deadline};
use crate::domain::{Position, RoomId, Seq};
use crate::storage::positions::decode_seqs;
use crate::storage::sql::positions::seqs_at;
use crate::storage::{HorizonSample, Positions, StoreError};

const SEQS_AT: &str = seqs_at!("UNNEST($1::bigint[]) AS t (room_id)");

/// The last position that was taken, the id of a transaction that began after it was read, and the lowest id that may be open.
///
/// Who takes a position has an id before: a commit locks rows of `cursors` first, which gives it one. The id of this transaction is given
/// after the last position was read (the outer query waits for the row of the inner one), so it is above all theirs. The end of the
/// current snapshot (`pg_snapshot_xmax`) is not: it is the id after the last transaction that has *ended*, and open ones can be above
/// it. That the statement takes an id costs a commit record of some 40 bytes, which nobody waits for.
const HORIZON: &str = "SELECT taken.last, CAST(CAST(pg_current_xact_id() AS text) AS bigint),
            CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)
     FROM (SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence('messages', 'position')::regclass), 0) AS last OFFSET 0) taken";

#[async_trait]
impl Positions for Postgres {
    async fn seqs_at(&self, rooms: &[RoomId], position: Position) -> Result<Vec<(RoomId, Seq)>, StoreError> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let query = sqlx::query_as(SEQS_AT).bind(rooms).bind(position.0);
        Ok(decode_seqs(within_deadline(query.fetch_all(&self.pool)).await?))
    }

    async fn horizon_sample(&self) -> Result<HorizonSample, StoreError> {
        let query = sqlx::query_as(HORIZON).fetch_one(&self.pool);
        let (last, next_transaction, oldest_transaction): (i64, i64, i64) = within_deadline(query).await?;
        Ok(HorizonSample {
            last: Position(last),
            next_transaction,
            oldest_transaction,
        })
    }
}
