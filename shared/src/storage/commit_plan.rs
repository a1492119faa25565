//! The plan of one commit: which entries become messages, which seq each one gets, and in which order rows are written.
//!
//! All decisions are made here, for both back ends. [`CommitStatements`] is what a back end adds.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::commit::{CommitError, Committed, Entry, EntryContent, PartitionBatch, RoomMessages, to_json};
use super::commit_statements::{CommitStatements, KnownRow, MessageRow, NewDeadLetter};
use super::senders::{Sender, SenderCache};
use crate::domain::{
    Accepted, LogEntryId, MESSAGE_KIND, MessageId, Partition, RoomId, Seq, StoredMessage, Timestamp, UserId,
};

/// Writes `batches` and moves their cursors. The caller commits the transaction, or drops it if this fails.
pub(super) async fn execute<T: CommitStatements>(
    tx: &mut T,
    batches: &[PartitionBatch],
    now: Timestamp,
    cache: &SenderCache,
) -> Result<Committed, CommitError> {
    check_ownership(tx, batches).await?;
    let messages = || batches.iter().flat_map(|batch| &batch.entries).filter_map(Entry::message);
    let rooms: HashSet<RoomId> = messages().map(|message| message.room).collect();
    let ids: Vec<MessageId> = messages().map(|message| message.id).collect();
    let mut plan = CommitPlan::default();
    if !ids.is_empty() {
        plan.heads = tx.room_heads(&Vec::from_iter(rooms)).await?.into_iter().collect();
        plan.known = tx.known_messages(&ids).await?.into_iter().map(Known::stored).collect();
        let derived = derived_ids(messages(), &plan.known);
        if !derived.is_empty() {
            plan.known.extend(tx.known_messages(&derived).await?.into_iter().map(Known::stored));
        }
        let unknown = cache.look_up(messages().map(|message| message.sender), &mut plan.senders);
        if !unknown.is_empty() {
            let found = tx.senders(&Vec::from_iter(unknown)).await?;
            cache.insert(found, &mut plan.senders);
        }
    }
    for batch in batches {
        for entry in &batch.entries {
            plan.add(batch.claim.partition, entry);
        }
    }
    let positions: Vec<_> = batches.iter().map(|batch| (batch.claim.partition, batch.upto())).collect();
    tx.move_cursors(&positions).await?;
    if !plan.rows.is_empty() {
        tx.insert_messages(&plan.rows).await?;
        tx.set_heads(&plan.changed_heads()).await?;
    }
    if !plan.dead.is_empty() {
        plan.committed.dead_letters = tx.insert_dead_letters(&plan.dead, now).await?;
    }
    Ok(plan.committed)
}

/// Fails unless every claim still holds: this worker owns the partition, and nobody has moved the cursor. The cursors are
/// locked from here on, so that this stays true until the transaction ends.
async fn check_ownership<T: CommitStatements>(tx: &mut T, batches: &[PartitionBatch]) -> Result<(), CommitError> {
    let mut partitions: Vec<Partition> = batches.iter().map(|batch| batch.claim.partition).collect();
    partitions.sort_unstable();
    let stored = tx.lock_cursors(&partitions).await?;
    let claims = batches.iter().map(|batch| batch.claim);
    let outdated: Vec<Partition> =
        claims.filter(|claim| !stored.contains(claim)).map(|claim| claim.partition).collect();
    if outdated.is_empty() {
        Ok(())
    } else {
        Err(CommitError::StaleClaims(outdated))
    }
}

/// The derived ids of those `messages` whose own id belongs to another message: to a stored one, as `known` says, or to an
/// earlier one in this commit.
///
/// This happens if two gateways accept different messages under one idempotency key before either is stored. Both were
/// acknowledged, so neither may be lost.
fn derived_ids<'a>(
    messages: impl Iterator<Item = &'a Accepted>,
    known: &HashMap<MessageId, Known<'_>>,
) -> Vec<MessageId> {
    let mut first: HashMap<MessageId, &Accepted> = HashMap::new();
    let mut derived = Vec::new();
    for message in messages {
        let is_other = if let Some(known) = known.get(&message.id) {
            !known.is(message)
        } else {
            let first = first.entry(message.id).or_insert(message);
            (first.room, &first.text) != (message.room, &message.text)
        };
        if is_other {
            derived.push(message.id.derived_for(message.room, &message.text));
        }
    }
    derived
}

/// The message that an id belongs to.
struct Known<'a> {
    seq: Seq,
    room: RoomId,
    text: Cow<'a, str>,
}

impl Known<'_> {
    fn stored((id, seq, room, text): KnownRow) -> (MessageId, Self) {
        let known = Self {
            seq: Seq(seq),
            room: RoomId(room),
            text: text.into(),
        };
        (MessageId(id), known)
    }

    /// Whether `message` is the same message again.
    fn is(&self, message: &Accepted) -> bool {
        self.room == message.room && self.text == message.text.as_str()
    }
}

/// The rows of one commit. All of them are decided before any is written.
#[derive(Default)]
struct CommitPlan<'a> {
    rows: Vec<MessageRow<'a>>,
    dead: Vec<NewDeadLetter>,
    /// The last seq of every room that has entries and exists.
    heads: HashMap<RoomId, Seq>,
    /// The messages that are stored or in this plan, by id.
    known: HashMap<MessageId, Known<'a>>,
    /// The senders that exist, by id.
    senders: HashMap<UserId, Arc<Sender>>,
    /// Index in `committed.rooms` of each room that gets messages.
    room_index: HashMap<RoomId, usize>,
    committed: Committed,
}

impl<'a> CommitPlan<'a> {
    /// Adds an entry as a message, a duplicate or a dead letter.
    fn add(&mut self, partition: Partition, entry: &'a Entry) {
        match &entry.content {
            EntryContent::Message(message) => self.add_message(partition, entry.log_entry_id, message),
            EntryContent::DeadLetter { reason, entry: raw } => {
                self.set_aside(partition, entry.log_entry_id, reason, raw);
            }
        }
    }

    fn add_message(&mut self, partition: Partition, log_entry_id: LogEntryId, message: &'a Accepted) {
        let Some(head) = self.heads.get_mut(&message.room) else {
            return self.set_aside(partition, log_entry_id, "there is no such room", &to_json(message));
        };
        let Some(sender) = self.senders.get(&message.sender) else {
            return self.set_aside(partition, log_entry_id, "there is no such sender", &to_json(message));
        };
        let id = match self.known.get(&message.id) {
            Some(known) if !known.is(message) => message.id.derived_for(message.room, &message.text),
            Some(_) | None => message.id,
        };
        if let Some(known) = self.known.get(&id) {
            return self.committed.duplicates.push((message.id, known.seq));
        }
        *head = head.next();
        let seq = *head;
        let known = Known {
            seq,
            room: message.room,
            text: message.text.as_str().into(),
        };
        self.known.insert(id, known);
        self.rows.push(MessageRow { seq, id, message });
        let rooms = &mut self.committed.rooms;
        let index = *self.room_index.entry(message.room).or_insert_with(|| {
            rooms.push(RoomMessages {
                partition,
                room: message.room,
                messages: Vec::new(),
            });
            rooms.len() - 1
        });
        rooms[index].messages.push(StoredMessage {
            seq,
            id,
            username: sender.username.clone(),
            public_id: sender.public_id.clone(),
            kind: MESSAGE_KIND.to_owned(),
            text: message.text.as_str().to_owned(),
            created_on: message.created_on,
        });
    }

    /// Adds a dead letter. U+0000, which Postgres cannot hold in a text, is replaced: otherwise the row would be refused on every
    /// attempt.
    fn set_aside(&mut self, partition: Partition, log_entry_id: LogEntryId, reason: &str, entry: &str) {
        let row = NewDeadLetter {
            partition,
            log_entry_id,
            reason: reason.replace('\0', "\u{FFFD}"),
            entry: entry.replace('\0', "\u{FFFD}"),
        };
        if !self.dead.iter().any(|other| other.is_same_entry(&row)) {
            self.dead.push(row);
        }
    }

    fn changed_heads(&self) -> Vec<(RoomId, Seq)> {
        self.room_index
            .keys()
            .filter_map(|room| self.heads.get_key_value(room))
            .map(|(room, seq)| (*room, *seq))
            .collect()
    }
}
