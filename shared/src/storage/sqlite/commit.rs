//! Claims and commits of the worker.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::Sqlite;
use super::json_list::{Hex, json_list};
use crate::domain::{Fence, LogEntryId, MESSAGE_KIND, MessageId, Partition, RoomId, Seq, Timestamp, UserId};
use crate::storage::commit::{ClaimRow, decode_claims, decode_fences};
use crate::storage::commit_plan::{self, ReactionKey};
use crate::storage::commit_statements::{
    AlteredMessage, ChangeRow, CommitStatements, Head, KnownRow, Links, MessageRow, NewDeadLetter, NewHead, RoomState,
    RoomStateRow, TargetRow, decode_room_states,
};
use crate::storage::head_positions::block_of;
use crate::storage::outbox::OutboxRow;
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

    /// The file has one writer, so the positions above the highest one are free until this transaction ends.
    async fn move_cursors(&mut self, to: &[(Partition, LogEntryId)], count: usize) -> Result<Vec<i64>, sqlx::Error> {
        let to = to.iter().map(|(partition, to)| (partition, to.ms, to.counter));
        let last: Vec<i64> = sqlx::query_scalar(
            "UPDATE cursors SET stream_ms = j.value ->> 1, stream_counter = j.value ->> 2
             FROM json_each($1) j WHERE partition = j.value ->> 0
             RETURNING max(COALESCE((SELECT max(position) FROM messages), 0),
                           COALESCE((SELECT max(position) FROM changes), 0))",
        )
        .bind(json_list(to)?)
        .fetch_all(&mut *self)
        .await?;
        Ok(last.first().map(|last| (last + 1..).take(count).collect()).unwrap_or_default())
    }

    async fn room_heads(&mut self, rooms: &[RoomId]) -> Result<Vec<RoomState>, sqlx::Error> {
        let rows: Vec<RoomStateRow> = sqlx::query_as(
            "SELECT r.id, COALESCE(h.seq, 0), COALESCE(h.others, 0), COALESCE(h.changed, 0),
                    EXISTS (SELECT 1 FROM outbox o WHERE o.room_id = r.id)
             FROM json_each($1) j JOIN rooms r ON r.id = j.value LEFT JOIN room_heads h ON h.room_id = r.id",
        )
        .bind(json_list(rooms)?)
        .fetch_all(&mut *self)
        .await?;
        Ok(decode_room_states(rows))
    }

    async fn outbox(&mut self, rooms: &[RoomId], limit: u32) -> Result<Vec<OutboxRow>, sqlx::Error> {
        sqlx::query_as(
            "SELECT id, room_id, sender_id, member_id, kind, detail, created_on FROM outbox
             WHERE room_id IN (SELECT j.value FROM json_each($1) j) ORDER BY id LIMIT +$2",
        )
        .bind(json_list(rooms)?)
        .bind(limit)
        .fetch_all(&mut *self)
        .await
    }

    async fn remove_from_outbox(&mut self, ids: &[i64]) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM outbox WHERE id IN (SELECT j.value FROM json_each($1) j)")
            .bind(json_list(ids)?)
            .execute(&mut *self)
            .await?;
        Ok(())
    }

    async fn known_messages(&mut self, ids: &[MessageId]) -> Result<Vec<KnownRow>, sqlx::Error> {
        sqlx::query_as(
            "SELECT id, seq, room_id, text, extra FROM messages
             WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j)",
        )
        .bind(json_list(ids.iter().copied().map(Hex))?)
        .fetch_all(&mut *self)
        .await
    }

    async fn known_changes(&mut self, ids: &[MessageId]) -> Result<Vec<(MessageId, Seq)>, sqlx::Error> {
        let rows: Vec<(Uuid, i64)> =
            sqlx::query_as("SELECT id, seq FROM changes WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j)")
                .bind(json_list(ids.iter().copied().map(Hex))?)
                .fetch_all(&mut *self)
                .await?;
        Ok(rows.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
    }

    async fn targets(&mut self, ids: &[MessageId]) -> Result<Vec<TargetRow>, sqlx::Error> {
        sqlx::query_as(
            "SELECT id, room_id, seq, sender_id, created_on, text, extra FROM messages
             WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j)",
        )
        .bind(json_list(ids.iter().copied().map(Hex))?)
        .fetch_all(&mut *self)
        .await
    }

    async fn reactions_among(&mut self, keys: &[ReactionKey]) -> Result<Vec<usize>, sqlx::Error> {
        let indexes: Vec<i64> = sqlx::query_scalar(
            "SELECT j.key FROM json_each($1) j JOIN reactions r
             ON r.room_id = j.value ->> 0 AND r.seq = j.value ->> 1 AND r.emoji = j.value ->> 2 AND r.user_id = j.value ->> 3",
        )
        .bind(json_list(keys)?)
        .fetch_all(&mut *self)
        .await?;
        Ok(indexes.into_iter().filter_map(|index| usize::try_from(index).ok()).collect())
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
        let rows = rows.iter().map(|row| {
            let MessageRow { message, seq, id, .. } = row;
            let (text, at) = (&row.text, message.created_on);
            (row.position, message.room, seq, Hex(*id), message.sender, text, at, row.others, &row.extra)
        });
        sqlx::query(
            "INSERT INTO messages (position, room_id, seq, id, sender_id, kind, text, created_on, others, extra)
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, unhex(j.value ->> 3), j.value ->> 4, $1, j.value ->> 5,
                    j.value ->> 6, j.value ->> 7, j.value ->> 8
             FROM json_each($2) j ORDER BY j.key",
        )
        .bind(MESSAGE_KIND)
        .bind(json_list(rows)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn insert_changes(&mut self, rows: &[ChangeRow]) -> Result<(), sqlx::Error> {
        let rows = rows.iter().map(|row| {
            let (target, target_seq) = row.target.map(|(target, seq)| (Hex(target), seq)).unzip();
            let who = (row.sender, row.member);
            (
                row.position,
                row.room,
                row.seq,
                Hex(row.id),
                who,
                row.kind,
                target,
                target_seq,
                &row.detail,
                row.created_on,
            )
        });
        sqlx::query(
            "INSERT INTO changes (position, room_id, seq, id, sender_id, member_id, kind, target, target_seq, detail,
                                  created_on)
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, unhex(j.value ->> 3), j.value ->> '$[4][0]',
                    j.value ->> '$[4][1]', j.value ->> 5, unhex(j.value ->> 6), j.value ->> 7, j.value ->> 8, j.value ->> 9
             FROM json_each($1) j ORDER BY j.key",
        )
        .bind(json_list(rows)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn alter_messages(&mut self, messages: &[AlteredMessage]) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE messages SET text = j.value ->> 'text', extra = j.value ->> 'extra'
             FROM json_each($1) j WHERE room_id = j.value ->> 'room' AND seq = j.value ->> 'seq'",
        )
        .bind(json_list(messages)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn set_reactions(&mut self, added: &[ReactionKey], removed: &[ReactionKey]) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO reactions (room_id, seq, emoji, user_id)
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3 FROM json_each($1) j WHERE true
             ON CONFLICT DO NOTHING",
        )
        .bind(json_list(added)?)
        .execute(&mut *self)
        .await?;
        sqlx::query(
            "DELETE FROM reactions WHERE (room_id, seq, emoji, user_id) IN
             (SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3 FROM json_each($1) j)",
        )
        .bind(json_list(removed)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn clear_deleted(&mut self, messages: &[(RoomId, Seq)]) -> Result<(), sqlx::Error> {
        let messages = json_list(messages)?;
        for statement in [
            "DELETE FROM reactions WHERE (room_id, seq) IN (SELECT j.value ->> 0, j.value ->> 1 FROM json_each($1) j)",
            "DELETE FROM mentions WHERE (room_id, seq) IN (SELECT j.value ->> 0, j.value ->> 1 FROM json_each($1) j)",
        ] {
            sqlx::query(statement).bind(&messages).execute(&mut *self).await?;
        }
        Ok(())
    }

    async fn insert_links(&mut self, links: &Links) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO replies (room_id, seq, seq_of_reply)
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2 FROM json_each($1) j WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(json_list(&links.replies)?)
        .execute(&mut *self)
        .await?;
        sqlx::query(
            "INSERT INTO mentions (user_id, room_id, seq)
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2 FROM json_each($1) j WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(json_list(&links.mentions)?)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn set_heads(&mut self, heads: &[NewHead]) -> Result<(), sqlx::Error> {
        let heads = heads.iter().map(|new| {
            let Head { seq, others, changed } = new.head;
            (new.room, seq, others, changed, new.partition, new.position, block_of(new.position))
        });
        sqlx::query(
            "INSERT INTO room_heads (room_id, seq, others, changed, partition, position, block)
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6
             FROM json_each($1) j WHERE true
             ON CONFLICT (room_id) DO UPDATE SET
                 seq = excluded.seq, others = excluded.others, changed = excluded.changed,
                 partition = excluded.partition, position = excluded.position, block = excluded.block",
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
