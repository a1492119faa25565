//! Claims and commits of the worker.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

use super::Sqlite;
use super::json_list::{Hex, json_list};
use crate::domain::{Fence, LogEntryId, MESSAGE_KIND, MessageId, Partition, RoomId, Seq, Timestamp, UserId};
use crate::storage::commit::{ClaimRow, decode_claims, decode_fences};
use crate::storage::commit_plan;
use crate::storage::commit_statements::{CommitStatements, KnownRow, MessageRow, NewDeadLetter};
use crate::storage::senders::{Sender, SenderRow, decode_senders};
use crate::storage::sql::installation::LIST_FENCES;
use crate::storage::{Claim, CommitError, Commits, Committed, PartitionBatch, StoreError, run_detached};

#[async_trait]
impl Commits for Sqlite {
    async fn claim(&self, partitions: &[Partition], owner: &str) -> Result<Vec<Claim>, StoreError> {
        let (pool, partitions, owner) = (self.write.clone(), json_list(partitions)?, owner.to_owned());
        run_detached(async move {
            let rows: Vec<ClaimRow> = sqlx::query_as(
                "UPDATE cursors SET fence = fence + 1, owner = $1
                 WHERE partition IN (SELECT j.value FROM json_each($2) j)
                 RETURNING partition, fence, stream_ms, stream_counter",
            )
            .bind(owner)
            .bind(partitions)
            .fetch_all(&pool)
            .await?;
            Ok(decode_claims(rows)?)
        })
        .await
    }

    async fn fences(&self) -> Result<Vec<(Partition, Fence)>, StoreError> {
        let rows = sqlx::query_as(LIST_FENCES).fetch_all(&self.read).await?;
        Ok(decode_fences(rows)?)
    }

    async fn commit(
        &self,
        batches: Arc<[PartitionBatch]>,
        now: Timestamp,
        before_commit: BoxFuture<'static, ()>,
    ) -> Result<Committed, CommitError> {
        let senders = self.senders.clone();
        self.transaction(move |tx| {
            Box::pin(async move {
                let committed = commit_plan::execute(tx, &batches, now, &senders).await?;
                before_commit.await;
                Ok(committed)
            })
        })
        .await
    }
}

impl CommitStatements for SqliteConnection {
    /// Nothing is locked here: the file has one writer, and this transaction is it.
    async fn lock_cursors(&mut self, partitions: &[Partition]) -> Result<Vec<Claim>, sqlx::Error> {
        let rows: Vec<ClaimRow> = sqlx::query_as(
            "SELECT partition, fence, stream_ms, stream_counter FROM cursors
             WHERE partition IN (SELECT j.value FROM json_each($1) j)",
        )
        .bind(json_list(partitions)?)
        .fetch_all(&mut *self)
        .await?;
        decode_claims(rows)
    }

    async fn move_cursors(&mut self, to: &[(Partition, LogEntryId)]) -> Result<(), sqlx::Error> {
        let to = to.iter().map(|(partition, to)| (partition, to.ms, to.counter));
        sqlx::query(
            "UPDATE cursors SET stream_ms = j.value ->> 1, stream_counter = j.value ->> 2
             FROM json_each($1) j WHERE partition = j.value ->> 0",
        )
        .bind(json_list(to)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn room_heads(&mut self, rooms: &[RoomId]) -> Result<Vec<(RoomId, Seq)>, sqlx::Error> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT r.id, COALESCE(h.seq, 0)
             FROM json_each($1) j JOIN rooms r ON r.id = j.value LEFT JOIN room_heads h ON h.room_id = r.id",
        )
        .bind(json_list(rooms)?)
        .fetch_all(&mut *self)
        .await?;
        Ok(rows.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect())
    }

    async fn known_messages(&mut self, ids: &[MessageId]) -> Result<Vec<KnownRow>, sqlx::Error> {
        sqlx::query_as(
            "SELECT id, seq, room_id, text FROM messages WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j)",
        )
        .bind(json_list(ids.iter().copied().map(Hex))?)
        .fetch_all(&mut *self)
        .await
    }

    async fn senders(&mut self, users: &[UserId]) -> Result<Vec<(UserId, Sender)>, sqlx::Error> {
        let rows: Vec<SenderRow> = sqlx::query_as(
            "SELECT id, username, public_id FROM users WHERE id IN (SELECT j.value FROM json_each($1) j)",
        )
        .bind(json_list(users)?)
        .fetch_all(&mut *self)
        .await?;
        Ok(decode_senders(rows))
    }

    async fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> Result<(), sqlx::Error> {
        let rows = rows.iter().map(|MessageRow { seq, id, message }| {
            let (id, text) = (Hex(*id), message.text.as_str());
            (message.room, seq, id, message.sender, text, message.created_on)
        });
        sqlx::query(
            "INSERT INTO messages (room_id, seq, id, sender_id, kind, text, created_on)
             SELECT j.value ->> 0, j.value ->> 1, unhex(j.value ->> 2), j.value ->> 3, $1, j.value ->> 4, j.value ->> 5
             FROM json_each($2) j ORDER BY j.key",
        )
        .bind(MESSAGE_KIND)
        .bind(json_list(rows)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn set_heads(&mut self, heads: &[(RoomId, Seq)]) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO room_heads (room_id, seq) SELECT j.value ->> 0, j.value ->> 1 FROM json_each($1) j WHERE true
             ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq",
        )
        .bind(json_list(heads)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn insert_dead_letters(&mut self, rows: &[NewDeadLetter], now: Timestamp) -> Result<u64, sqlx::Error> {
        let mut written = 0;
        for row in rows {
            let done = sqlx::query(
                "INSERT INTO dead_letters (partition, stream_id, reason, entry, created_on)
                 SELECT $1, $2, $3, $4, $5
                 WHERE NOT EXISTS (SELECT 1 FROM dead_letters WHERE partition = $1 AND stream_id = $2 AND entry = $4)",
            )
            .bind(row.partition.0)
            .bind(row.log_entry_id.to_string())
            .bind(&row.reason)
            .bind(&row.entry)
            .bind(now.0)
            .execute(&mut *self)
            .await?;
            written += done.rows_affected();
        }
        Ok(written)
    }
}
