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
use crate::storage::commit_plan::{self, ReactionKey};
use crate::storage::commit_statements::{
    AlteredMessage, ChangeRow, CommitStatements, KnownRow, Links, MessageRow, NewDeadLetter, NewHead, RoomState,
    RoomStateRow, TargetRow, decode_room_states,
};
use crate::storage::head_positions::block_of;
use crate::storage::outbox::OutboxRow;
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

fn uuids(ids: &[MessageId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

/// Reactions, by column.
#[derive(Default)]
struct ReactionColumns<'a> {
    rooms: Vec<i64>,
    seqs: Vec<i64>,
    emojis: Vec<&'a str>,
    users: Vec<i64>,
}

impl<'a> ReactionColumns<'a> {
    fn of(keys: &'a [ReactionKey]) -> Self {
        let mut columns = Self::default();
        for (room, seq, emoji, user) in keys {
            columns.rooms.push(room.0);
            columns.seqs.push(seq.0);
            columns.emojis.push(emoji.as_str());
            columns.users.push(user.0);
        }
        columns
    }
}

impl CommitStatements for PgConnection {
    async fn lock_cursors(&mut self, partitions: &[Partition]) -> Result<Vec<Claim>, sqlx::Error> {
        lock_cursors(self, partitions).await
    }

    /// The rows of the cursors are locked already, so the positions of a partition grow from commit to commit.
    async fn move_cursors(&mut self, to: &[(Partition, LogEntryId)], count: usize) -> Result<Vec<i64>, sqlx::Error> {
        let partitions: Vec<i64> = to.iter().map(|(partition, _)| i64::from(partition.0)).collect();
        let (ms, counters): (Vec<i64>, Vec<i64>) = to.iter().map(|(_, to)| (to.ms, to.counter)).unzip();
        let mut positions: Vec<i64> = sqlx::query_scalar(
            "WITH moved AS (
                 UPDATE cursors SET stream_ms = t.ms, stream_counter = t.counter
                 FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS t (partition, ms, counter)
                 WHERE cursors.partition = t.partition
             ), sequence AS MATERIALIZED (
                 SELECT pg_get_serial_sequence('messages', 'position')::regclass AS name
             )
             SELECT nextval(sequence.name) FROM sequence, generate_series(1, $4)",
        )
        .bind(partitions)
        .bind(ms)
        .bind(counters)
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_all(&mut *self)
        .await?;
        positions.sort_unstable();
        Ok(positions)
    }

    async fn room_heads(&mut self, rooms: &[RoomId]) -> Result<Vec<RoomState>, sqlx::Error> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        let rows: Vec<RoomStateRow> = sqlx::query_as(
            "SELECT r.id, COALESCE(h.seq, 0), COALESCE(h.others, 0), COALESCE(h.changed, 0),
                    EXISTS (SELECT 1 FROM outbox o WHERE o.room_id = r.id)
             FROM rooms r LEFT JOIN room_heads h ON h.room_id = r.id WHERE r.id = ANY ($1)",
        )
        .bind(rooms)
        .fetch_all(&mut *self)
        .await?;
        Ok(decode_room_states(rows))
    }

    async fn outbox(&mut self, rooms: &[RoomId], limit: u32) -> Result<Vec<OutboxRow>, sqlx::Error> {
        let rooms: Vec<i64> = rooms.iter().map(|room| room.0).collect();
        sqlx::query_as(
            "SELECT id, room_id, sender_id, member_id, kind, detail, created_on FROM outbox
             WHERE room_id = ANY ($1) ORDER BY id LIMIT $2",
        )
        .bind(rooms)
        .bind(i64::from(limit))
        .fetch_all(&mut *self)
        .await
    }

    async fn remove_from_outbox(&mut self, ids: &[i64]) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM outbox WHERE id = ANY ($1)").bind(ids).execute(&mut *self).await?;
        Ok(())
    }

    async fn known_messages(&mut self, ids: &[MessageId]) -> Result<Vec<KnownRow>, sqlx::Error> {
        sqlx::query_as("SELECT id, seq, room_id, text, extra FROM messages WHERE id = ANY ($1)")
            .bind(uuids(ids))
            .fetch_all(&mut *self)
            .await
    }

    async fn known_changes(&mut self, ids: &[MessageId]) -> Result<Vec<(MessageId, Seq)>, sqlx::Error> {
        let rows: Vec<(Uuid, i64)> = sqlx::query_as("SELECT id, seq FROM changes WHERE id = ANY ($1)")
            .bind(uuids(ids))
            .fetch_all(&mut *self)
            .await?;
        Ok(rows.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
    }

    async fn targets(&mut self, ids: &[MessageId]) -> Result<Vec<TargetRow>, sqlx::Error> {
        sqlx::query_as("SELECT id, room_id, seq, sender_id, created_on, text, extra FROM messages WHERE id = ANY ($1)")
            .bind(uuids(ids))
            .fetch_all(&mut *self)
            .await
    }

    async fn reactions_among(&mut self, keys: &[ReactionKey]) -> Result<Vec<usize>, sqlx::Error> {
        let keys = ReactionColumns::of(keys);
        let numbers: Vec<i64> = sqlx::query_scalar(
            "SELECT t.number FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[])
                  WITH ORDINALITY AS t (room_id, seq, emoji, user_id, number)
             JOIN reactions USING (room_id, seq, emoji, user_id)",
        )
        .bind(keys.rooms)
        .bind(keys.seqs)
        .bind(keys.emojis)
        .bind(keys.users)
        .fetch_all(&mut *self)
        .await?;
        Ok(numbers.into_iter().filter_map(|number| usize::try_from(number - 1).ok()).collect())
    }

    async fn senders(&mut self, users: &[UserId]) -> Result<Vec<(UserId, Sender)>, sqlx::Error> {
        let users: Vec<i64> = users.iter().map(|user| user.0).collect();
        let rows: Vec<SenderRow> = sqlx::query_as("SELECT id, username, public_id FROM users WHERE id = ANY ($1)")
            .bind(users)
            .fetch_all(&mut *self)
            .await?;
        Ok(decode_senders(rows))
    }

    async fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> Result<(), sqlx::Error> {
        let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
        let rooms: Vec<i64> = rows.iter().map(|row| row.message.room.0).collect();
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq.0).collect();
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
        let senders: Vec<i64> = rows.iter().map(|row| row.message.sender.0).collect();
        let texts: Vec<&str> = rows.iter().map(|row| &*row.text).collect();
        let times: Vec<i64> = rows.iter().map(|row| row.message.created_on.0).collect();
        let others: Vec<i64> = rows.iter().map(|row| row.others).collect();
        let extras: Vec<Option<&str>> = rows.iter().map(|row| row.extra.as_deref()).collect();
        sqlx::query(
            "INSERT INTO messages (position, room_id, seq, id, sender_id, kind, text, created_on, others, extra)
             SELECT t.position, t.room_id, t.seq, t.id, t.sender_id, $1, t.text, t.created_on, t.others, t.extra
             FROM UNNEST($2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::bigint[], $7::text[], $8::bigint[],
                         $9::bigint[], $10::text[])
                  AS t (position, room_id, seq, id, sender_id, text, created_on, others, extra)",
        )
        .bind(MESSAGE_KIND)
        .bind(positions)
        .bind(rooms)
        .bind(seqs)
        .bind(ids)
        .bind(senders)
        .bind(texts)
        .bind(times)
        .bind(others)
        .bind(extras)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn insert_changes(&mut self, rows: &[ChangeRow]) -> Result<(), sqlx::Error> {
        let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
        let rooms: Vec<i64> = rows.iter().map(|row| row.room.0).collect();
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq.0).collect();
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
        let senders: Vec<i64> = rows.iter().map(|row| row.sender.0).collect();
        let kinds: Vec<&str> = rows.iter().map(|row| row.kind).collect();
        let targets: Vec<Option<Uuid>> = rows.iter().map(|row| row.target.map(|(target, _)| target.0)).collect();
        let target_seqs: Vec<Option<i64>> = rows.iter().map(|row| row.target.map(|(_, seq)| seq.0)).collect();
        let details: Vec<Option<&str>> = rows.iter().map(|row| row.detail.as_deref()).collect();
        let times: Vec<i64> = rows.iter().map(|row| row.created_on.0).collect();
        let members: Vec<Option<i64>> = rows.iter().map(|row| row.member.map(|member| member.0)).collect();
        sqlx::query(
            "INSERT INTO changes (position, room_id, seq, id, sender_id, kind, target, target_seq, detail, created_on,
                                  member_id)
             SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::text[],
                                  $7::uuid[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[])",
        )
        .bind(positions)
        .bind(rooms)
        .bind(seqs)
        .bind(ids)
        .bind(senders)
        .bind(kinds)
        .bind(targets)
        .bind(target_seqs)
        .bind(details)
        .bind(times)
        .bind(members)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn alter_messages(&mut self, messages: &[AlteredMessage]) -> Result<(), sqlx::Error> {
        let rooms: Vec<i64> = messages.iter().map(|message| message.room.0).collect();
        let seqs: Vec<i64> = messages.iter().map(|message| message.seq.0).collect();
        let texts: Vec<&str> = messages.iter().map(|message| message.text.as_str()).collect();
        let extras: Vec<Option<&str>> = messages.iter().map(|message| message.extra.as_deref()).collect();
        sqlx::query(
            "UPDATE messages SET text = t.text, extra = t.extra
             FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS t (room_id, seq, text, extra)
             WHERE messages.room_id = t.room_id AND messages.seq = t.seq",
        )
        .bind(rooms)
        .bind(seqs)
        .bind(texts)
        .bind(extras)
        .execute(&mut *self)
        .await?;
        Ok(())
    }

    async fn set_reactions(&mut self, added: &[ReactionKey], removed: &[ReactionKey]) -> Result<(), sqlx::Error> {
        for (statement, keys) in [
            (
                "INSERT INTO reactions (room_id, seq, emoji, user_id)
                 SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) ON CONFLICT DO NOTHING",
                added,
            ),
            (
                "DELETE FROM reactions r USING UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[])
                      AS t (room_id, seq, emoji, user_id)
                 WHERE (r.room_id, r.seq, r.emoji, r.user_id) = (t.room_id, t.seq, t.emoji, t.user_id)",
                removed,
            ),
        ] {
            let keys = ReactionColumns::of(keys);
            sqlx::query(statement)
                .bind(keys.rooms)
                .bind(keys.seqs)
                .bind(keys.emojis)
                .bind(keys.users)
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }

    async fn clear_deleted(&mut self, messages: &[(RoomId, Seq)]) -> Result<(), sqlx::Error> {
        let (rooms, seqs): (Vec<i64>, Vec<i64>) = messages.iter().map(|(room, seq)| (room.0, seq.0)).unzip();
        for statement in [
            "DELETE FROM reactions r USING UNNEST($1::bigint[], $2::bigint[]) AS t (room_id, seq)
             WHERE (r.room_id, r.seq) = (t.room_id, t.seq)",
            "DELETE FROM mentions r USING UNNEST($1::bigint[], $2::bigint[]) AS t (room_id, seq)
             WHERE (r.room_id, r.seq) = (t.room_id, t.seq)",
        ] {
            sqlx::query(statement).bind(&rooms).bind(&seqs).execute(&mut *self).await?;
        }
        Ok(())
    }

    async fn insert_links(&mut self, links: &Links) -> Result<(), sqlx::Error> {
        let replies: Vec<[i64; 3]> = links.replies.iter().map(|(room, seq, reply)| [room.0, seq.0, reply.0]).collect();
        let mentions: Vec<[i64; 3]> = links.mentions.iter().map(|(user, room, seq)| [user.0, room.0, seq.0]).collect();
        for (statement, rows) in [
            (
                "INSERT INTO replies (room_id, seq, seq_of_reply)
                 SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) ON CONFLICT DO NOTHING",
                replies,
            ),
            (
                "INSERT INTO mentions (user_id, room_id, seq)
                 SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) ON CONFLICT DO NOTHING",
                mentions,
            ),
        ] {
            let column = |index: usize| rows.iter().map(|row| row[index]).collect::<Vec<i64>>();
            sqlx::query(statement).bind(column(0)).bind(column(1)).bind(column(2)).execute(&mut *self).await?;
        }
        Ok(())
    }

    async fn set_heads(&mut self, heads: &[NewHead]) -> Result<(), sqlx::Error> {
        let rooms: Vec<i64> = heads.iter().map(|new| new.room.0).collect();
        let seqs: Vec<i64> = heads.iter().map(|new| new.head.seq.0).collect();
        let others: Vec<i64> = heads.iter().map(|new| new.head.others).collect();
        let changed: Vec<i64> = heads.iter().map(|new| new.head.changed.0).collect();
        let partitions: Vec<i64> = heads.iter().map(|new| i64::from(new.partition.0)).collect();
        let positions: Vec<i64> = heads.iter().map(|new| new.position).collect();
        let blocks: Vec<i64> = positions.iter().copied().map(block_of).collect();
        sqlx::query(
            "INSERT INTO room_heads (room_id, seq, others, changed, partition, position, block)
             SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                                  $7::bigint[])
             ON CONFLICT (room_id) DO UPDATE SET
                 seq = excluded.seq, others = excluded.others, changed = excluded.changed,
                 partition = excluded.partition, position = excluded.position, block = excluded.block",
        )
        .bind(rooms)
        .bind(seqs)
        .bind(others)
        .bind(changed)
        .bind(partitions)
        .bind(positions)
        .bind(blocks)
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
