//! The worker's side: taking over partitions and committing what was read from them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;
use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError, uninterrupted};
use crate::domain::{
    Accepted, Fence, MESSAGE_KIND, MessageId, Partition, RoomId, Seq, StoredMessage, StreamId, Timestamp,
};

/// A partition taken over by a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: Partition,
    /// The number of this ownership.
    pub fence: Fence,
    /// Up to here everything is stored.
    pub cursor: StreamId,
}

/// An entry of the accept log as it was read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place in the stream.
    pub stream_id: StreamId,
    /// What it holds.
    pub content: Content,
}

/// What an entry holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// A message to be stored.
    Message(Accepted),
    /// Something that can never be stored: it goes to the dead letters.
    DeadLetter {
        /// Why not.
        reason: String,
        /// All that was in it, as JSON.
        entry: String,
    },
}

/// Consecutive entries of one partition, to be stored in their order.
#[derive(Debug, Clone)]
pub struct PartitionBatch {
    /// The ownership under which they were read, with the position before them.
    pub claim: Claim,
    /// The entries, ascending by stream id; never empty.
    pub entries: Vec<Entry>,
}

impl PartitionBatch {
    /// The position behind the batch. A cursor never moves back, even over entries that lie below it.
    #[must_use]
    pub fn upto(&self) -> StreamId {
        let last = self.entries.last().map(|entry| entry.stream_id);
        last.unwrap_or_default().max(self.claim.cursor)
    }
}

/// What a commit stored.
#[derive(Default)]
pub struct Appended {
    /// New messages by room, in the order of their seqs.
    pub rooms: Vec<(Partition, RoomId, Vec<StoredMessage>)>,
    /// Entries that were stored before and are left out, with the place each one has.
    pub duplicates: Vec<(MessageId, Seq)>,
    /// Entries that went to the dead letters.
    pub dead_letters: usize,
}

/// Why a batch was not stored. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// These partitions of the batch are no longer this worker's.
    #[error("another worker has taken over")]
    Fenced(Vec<Partition>),
    /// Storage failed, or refused the data ([`StoreError::is_rejection`]).
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AppendError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError(error))
    }
}

impl Store {
    /// Takes over `partitions` for `owner`: whoever had one can no longer commit to it.
    pub async fn claim(&self, partitions: &[Partition], owner: &str) -> Result<Vec<Claim>, StoreError> {
        let rows: Vec<(u16, i64, i64, i64)> = sqlx::query_as(
            "UPDATE cursors SET fence = fence + 1, owner = ?
             WHERE partition IN (SELECT j.value FROM json_each(?) j)
             RETURNING partition, fence, stream_ms, stream_counter",
        )
        .bind(owner)
        .bind(json!(partitions).to_string())
        .fetch_all(&self.write)
        .await?;
        let mut claims: Vec<Claim> = rows
            .into_iter()
            .map(|(partition, fence, ms, counter)| Claim {
                partition: Partition(partition),
                fence: Fence(fence),
                cursor: StreamId { ms, counter },
            })
            .collect();
        claims.sort_unstable_by_key(|claim| claim.partition);
        Ok(claims)
    }

    /// Stores `batches` and moves their cursors, all in one transaction or not at all.
    ///
    /// `before_commit` runs inside the transaction when everything is written.
    pub async fn append(
        &self,
        batches: Arc<[PartitionBatch]>,
        now: Timestamp,
        before_commit: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Appended, AppendError> {
        let pool = self.write.clone();
        uninterrupted(async move {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
            move_cursors(&mut tx, &batches).await?;
            let draft = Draft::of(&mut tx, &batches).await?;
            draft.write(&mut tx, now).await?;
            before_commit.await;
            tx.commit().await?;
            Ok(draft.appended)
        })
        .await
    }
}

/// Moves the cursor of every partition of the batch, if this worker still owns it and nobody moved it meanwhile.
async fn move_cursors(tx: &mut Transaction<'_, Sqlite>, batches: &[PartitionBatch]) -> Result<(), AppendError> {
    let moves: Vec<_> = batches
        .iter()
        .map(|batch| {
            let (from, to) = (batch.claim.cursor, batch.upto());
            json!([
                batch.claim.partition,
                batch.claim.fence.0,
                from.ms,
                from.counter,
                to.ms,
                to.counter
            ])
        })
        .collect();
    let taken_on: Vec<u16> = sqlx::query_scalar(
        "UPDATE cursors SET stream_ms = j.value ->> 4, stream_counter = j.value ->> 5
         FROM json_each(?) j
         WHERE partition = j.value ->> 0 AND fence = j.value ->> 1
           AND stream_ms = j.value ->> 2 AND stream_counter = j.value ->> 3
         RETURNING partition",
    )
    .bind(json!(moves).to_string())
    .fetch_all(&mut **tx)
    .await?;
    let claimed = batches.iter().map(|batch| batch.claim.partition);
    let lost: Vec<Partition> = claimed.filter(|partition| !taken_on.contains(&partition.0)).collect();
    if lost.is_empty() {
        Ok(())
    } else {
        Err(AppendError::Fenced(lost))
    }
}

/// The rows of one commit, decided before any of them is written.
struct Draft {
    messages: Vec<serde_json::Value>,
    /// Last seq of every room that occurs and exists.
    heads: HashMap<RoomId, Seq>,
    /// Places of the messages that are stored, or in this draft.
    known: HashMap<MessageId, Seq>,
    /// Place in `appended.rooms` of each room that gets messages.
    places: HashMap<RoomId, usize>,
    dead: Vec<(Partition, StreamId, String, String)>,
    appended: Appended,
}

impl Draft {
    /// Gives every new message its place.
    async fn of(tx: &mut Transaction<'_, Sqlite>, batches: &[PartitionBatch]) -> Result<Self, AppendError> {
        let messages = || batches.iter().flat_map(|batch| &batch.entries).filter_map(Entry::message);
        let mut draft = Self {
            messages: Vec::new(),
            heads: room_heads(tx, messages().map(|message| message.room)).await?,
            known: stored_seqs(tx, messages().map(|message| message.id)).await?,
            places: HashMap::new(),
            dead: Vec::new(),
            appended: Appended::default(),
        };
        for batch in batches {
            let partition = batch.claim.partition;
            for entry in &batch.entries {
                match &entry.content {
                    Content::Message(message) => draft.add(partition, entry.stream_id, message),
                    Content::DeadLetter { reason, entry: raw } => {
                        draft.dead.push((partition, entry.stream_id, reason.clone(), raw.clone()));
                    }
                }
            }
        }
        draft.appended.dead_letters = draft.dead.len();
        Ok(draft)
    }

    fn add(&mut self, partition: Partition, stream_id: StreamId, message: &Accepted) {
        let Some(head) = self.heads.get_mut(&message.room) else {
            let reason = "there is no such room".to_owned();
            self.dead.push((partition, stream_id, reason, describe(message)));
            return;
        };
        if let Some(seq) = self.known.get(&message.id) {
            self.appended.duplicates.push((message.id, *seq));
            return;
        }
        *head = head.next();
        self.known.insert(message.id, *head);
        self.messages.push(json!([
            message.room,
            *head,
            message.id.0.simple().to_string(),
            message.sender,
            message.text.as_str(),
            message.created_on,
        ]));
        let rooms = &mut self.appended.rooms;
        let place = *self.places.entry(message.room).or_insert_with(|| {
            rooms.push((partition, message.room, Vec::new()));
            rooms.len() - 1
        });
        rooms[place].2.push(StoredMessage {
            seq: *head,
            id: message.id,
            username: message.username.clone(),
            kind: MESSAGE_KIND.to_owned(),
            text: message.text.as_str().to_owned(),
            created_on: message.created_on,
        });
    }

    async fn write(&self, tx: &mut Transaction<'_, Sqlite>, now: Timestamp) -> Result<(), sqlx::Error> {
        if !self.messages.is_empty() {
            sqlx::query(
                "INSERT INTO messages (room_id, seq, id, sender_id, kind, text, created_on)
                 SELECT j.value ->> 0, j.value ->> 1, unhex(j.value ->> 2), j.value ->> 3, ?, j.value ->> 4, j.value ->> 5
                 FROM json_each(?) j ORDER BY j.key",
            )
            .bind(MESSAGE_KIND)
            .bind(json!(self.messages).to_string())
            .execute(&mut **tx)
            .await?;
            let changed = self.places.keys().filter_map(|room| self.heads.get_key_value(room));
            let heads: Vec<_> = changed.map(|(room, head)| json!([room, head])).collect();
            sqlx::query(
                "INSERT INTO room_heads (room_id, seq) SELECT j.value ->> 0, j.value ->> 1 FROM json_each(?) j WHERE true
                 ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq",
            )
            .bind(json!(heads).to_string())
            .execute(&mut **tx)
            .await?;
        }
        for (partition, stream_id, reason, entry) in &self.dead {
            sqlx::query(
                "INSERT INTO dead_letters (partition, stream_id, reason, entry, created_on) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(partition.0)
            .bind(stream_id.to_string())
            .bind(reason)
            .bind(entry)
            .bind(now.0)
            .execute(&mut **tx)
            .await?;
        }
        Ok(())
    }
}

impl Entry {
    fn message(&self) -> Option<&Accepted> {
        match &self.content {
            Content::Message(message) => Some(message),
            Content::DeadLetter { .. } => None,
        }
    }

    /// About how many bytes storing the entry takes.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Message(message) => message.text.as_str().len(),
            Content::DeadLetter { entry, .. } => entry.len(),
        }
    }

    /// The entry as a dead letter for `reason`, whatever it held.
    #[must_use]
    pub fn into_dead_letter(self, reason: &str) -> Self {
        let content = match self.content {
            Content::Message(message) => Content::DeadLetter {
                reason: reason.to_owned(),
                entry: describe(&message),
            },
            dead @ Content::DeadLetter { .. } => dead,
        };
        Self { content, ..self }
    }
}

/// All of a message as JSON, from which an operator can judge it and have it stored after all.
fn describe(message: &Accepted) -> String {
    json!({
        "id": message.id,
        "room": message.room,
        "sender": message.sender,
        "username": message.username,
        "text": message.text.as_str(),
        "at": message.created_on,
    })
    .to_string()
}

async fn stored_seqs(
    tx: &mut Transaction<'_, Sqlite>,
    ids: impl Iterator<Item = MessageId>,
) -> Result<HashMap<MessageId, Seq>, sqlx::Error> {
    let ids: Vec<String> = ids.map(|id| id.0.simple().to_string()).collect();
    let known: Vec<(uuid::Uuid, i64)> =
        sqlx::query_as("SELECT id, seq FROM messages WHERE id IN (SELECT unhex(j.value) FROM json_each(?) j)")
            .bind(json!(ids).to_string())
            .fetch_all(&mut **tx)
            .await?;
    Ok(known.into_iter().map(|(id, seq)| (MessageId(id), Seq(seq))).collect())
}

/// The last seq of each room that exists or existed; a deleted room still takes what was accepted for it.
async fn room_heads(
    tx: &mut Transaction<'_, Sqlite>,
    rooms: impl Iterator<Item = RoomId>,
) -> Result<HashMap<RoomId, Seq>, sqlx::Error> {
    let rooms: HashSet<RoomId> = rooms.collect();
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT r.id, COALESCE(h.seq, 0)
         FROM json_each(?) j JOIN rooms r ON r.id = j.value LEFT JOIN room_heads h ON h.room_id = r.id",
    )
    .bind(json!(rooms).to_string())
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect())
}
