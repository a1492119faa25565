//! Claims and commits of the worker.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use uuid::Uuid;

use super::cursors::lock_cursors;
use super::{Postgres, claim, run_detached, within_deadline};
use crate::domain::{Fence, LogEntryId, MESSAGE_KIND, MessageId, Partition, RoomId, Seq, Timestamp, UserId};
use crate::storage::commit::decode_fences;
use crate::storage::commit_plan;
use crate::storage::commit_statements::{CommitStatements, KnownRow, MessageRow, NewDeadLetter};
use crate::storage::senders::{Sender, SenderRow, decode_senders};
use crate::storage::sql::installation::LIST_FENCES;
use crate::storage::{Claim, CommitError, Commits, Committed, PartitionBatch, StoreError};

#[async_trait]
impl Commits for Postgres {
    async fn claim(&self, partitions: &[Partition], owner: &str) -> Result<Vec<Claim>, StoreError> {
        let (pool, partitions, owner) = (self.pool.clone(), partitions.to_vec(), owner.to_owned());
        run_detached(async move { Ok(claim::claim_partitions(&pool, &partitions, &owner).await?) }).await
    }

    async fn fences(&self) -> Result<Vec<(Partition, Fence)>, StoreError> {
        let rows = sqlx::query_as(LIST_FENCES).fetch_all(&self.pool);
        Ok(decode_fences(within_deadline(rows).await?)?)
    }

    async fn commit(
        &self,
        batches: Arc<[PartitionBatch]>,
        now: Timestamp,
        before_commit: BoxFuture<'static, ()>,
    ) -> Result<Committed, CommitError> {
        let (pool, senders) = (self.pool.clone(), self.senders.clone());
        run_detached(async move {
            let mut tx = pool.begin().await?;
            let committed = commit_plan::execute(&mut *tx, &batches, now, &senders).await?;
            before_commit.await;
            tx.commit().await?;
            Ok(committed)
        })
        .await
    }
}

impl CommitStatements for PgConnection {
    async fn lock_cursors(&mut self, partitions: &[Partition]) -> Result<Vec<Claim>, sqlx::Error> {
        lock_cursors(self, partitions).await
    }

    async fn move_cursors(&mut self, to: &[(Partition, LogEntryId)]) -> Result<(), sqlx::Error> {
        let partitions: Vec<i64> = to.iter().map(|(partition, _)| i64::from(partition.0)).collect();
        let (ms, counters): (Vec<i64>, Vec<i64>) = to.iter().map(|(_, to)| (to.ms, to.counter)).unzip();
        sqlx::query(
            "UPDATE cursors SET stream_ms = t.ms, stream_counter = t.counter
             FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS t (partition, ms, counter)
             WHERE cursors.partition = t.partition",
        )
        .bind(partitions)
        .bind(ms)
        .bind(counters)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn room_heads(&mut self, rooms: &[RoomId]) -> Result<Vec<(RoomId, Seq)>, sqlx::Error> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT r.id, COALESCE(h.seq, 0) FROM rooms r LEFT JOIN room_heads h ON h.room_id = r.id
             WHERE r.id = ANY ($1)",
        )
        .bind(rooms)
        .fetch_all(&mut *self)
        .await?;
        Ok(rows.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect())
    }

    async fn known_messages(&mut self, ids: &[MessageId]) -> Result<Vec<KnownRow>, sqlx::Error> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        sqlx::query_as("SELECT id, seq, room_id, text FROM messages WHERE id = ANY ($1)")
            .bind(ids)
            .fetch_all(&mut *self)
            .await
    }

    async fn senders(&mut self, users: &[UserId]) -> Result<Vec<(UserId, Sender)>, sqlx::Error> {
        let users: Vec<i64> = users.iter().map(|user| user.0).collect();
        let rows: Vec<SenderRow> = sqlx::query_as("SELECT id, username, public_id FROM users WHERE id = ANY ($1)")
            .bind(users)
            .fetch_all(&mut *self)
            .await?;
        Ok(decode_senders(rows))
    }

    /// The defaults of an INSERT are computed after its ORDER BY, so positions increase in the order given.
    async fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> Result<(), sqlx::Error> {
        let rooms: Vec<i64> = rows.iter().map(|row| row.message.room.0).collect();
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq.0).collect();
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
        let senders: Vec<i64> = rows.iter().map(|row| row.message.sender.0).collect();
        let texts: Vec<&str> = rows.iter().map(|row| row.message.text.as_str()).collect();
        let times: Vec<i64> = rows.iter().map(|row| row.message.created_on.0).collect();
        sqlx::query(
            "INSERT INTO messages (room_id, seq, id, sender_id, kind, text, created_on)
             SELECT t.room_id, t.seq, t.id, t.sender_id, $1, t.text, t.created_on
             FROM UNNEST($2::bigint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::text[], $7::bigint[])
                  WITH ORDINALITY AS t (room_id, seq, id, sender_id, text, created_on, place)
             ORDER BY t.place",
        )
        .bind(MESSAGE_KIND)
        .bind(rooms)
        .bind(seqs)
        .bind(ids)
        .bind(senders)
        .bind(texts)
        .bind(times)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn set_heads(&mut self, heads: &[(RoomId, Seq)]) -> Result<(), sqlx::Error> {
        let (rooms, seqs): (Vec<i64>, Vec<i64>) = heads.iter().map(|(room, seq)| (room.0, seq.0)).unzip();
        sqlx::query(
            "INSERT INTO room_heads (room_id, seq) SELECT * FROM UNNEST($1::bigint[], $2::bigint[])
             ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq",
        )
        .bind(rooms)
        .bind(seqs)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn insert_dead_letters(&mut self, rows: &[NewDeadLetter], now: Timestamp) -> Result<u64, sqlx::Error> {
        let partitions: Vec<i64> = rows.iter().map(|row| i64::from(row.partition.0)).collect();
        let log_entry_ids: Vec<String> = rows.iter().map(|row| row.log_entry_id.to_string()).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
        let entries: Vec<&str> = rows.iter().map(|row| row.entry.as_str()).collect();
        let done = sqlx::query(
            "INSERT INTO dead_letters (partition, stream_id, reason, entry, created_on)
             SELECT t.partition, t.stream_id, t.reason, t.entry, $1
             FROM UNNEST($2::bigint[], $3::text[], $4::text[], $5::text[])
                  WITH ORDINALITY AS t (partition, stream_id, reason, entry, place)
             WHERE NOT EXISTS (SELECT 1 FROM dead_letters d
                               WHERE d.partition = t.partition AND d.stream_id = t.stream_id AND d.entry = t.entry)
             ORDER BY t.place",
        )
        .bind(now.0)
        .bind(partitions)
        .bind(log_entry_ids)
        .bind(reasons)
        .bind(entries)
        .execute(&mut *self)
        .await?;
        Ok(done.rows_affected())
    }
}
