//! The plan of one commit: what becomes of each entry, which seq it gets, and in which order rows are written.
//!
//! All decisions are made here, for both back ends, on the state of the rooms in this transaction: whether a message is new,
//! whether a change is allowed. [`CommitStatements`] is what a back end adds.

mod changes;
mod known;
mod outbox;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(super) use self::changes::{ReactionKey, decode_extra, encode_extra};
use self::changes::{Reactions, Targets};
use self::known::{Known, derived_ids};
use super::commit::{
    CommitError, Committed, Entry, EntryContent, PartitionBatch, RoomEntries, change_to_json, message_to_json,
};
use super::commit_statements::{
    AlteredMessage, ChangeRow, CommitStatements, Head, KnownRow, Links, MessageRow, NewDeadLetter, NewHead,
    encode_change,
};
use super::outbox::{OUTBOX_ROWS, RoomOutbox};
use super::search;
use super::senders::{Sender, SenderCache};
use crate::domain::{
    Accepted, AcceptedChange, Change, LogEntryId, MESSAGE_KIND, MessageExtra, MessageId, Outcome, Partition, Refusal,
    RoomEntry, RoomId, Seq, StoredChange, StoredMessage, Timestamp, UserId,
};

/// Writes `batches` and moves their cursors. The caller commits the transaction, or drops it if this fails.
pub(super) async fn execute<T: CommitStatements>(
    tx: &mut T,
    batches: &[PartitionBatch],
    now: Timestamp,
    cache: &SenderCache,
) -> Result<Committed, CommitError> {
    check_ownership(tx, batches).await?;
    let mut plan = CommitPlan::load(tx, batches, cache).await?;
    for batch in batches {
        for entry in &batch.entries {
            plan.add(batch.claim.partition, entry);
        }
    }
    let read: Vec<_> = batches.iter().map(|batch| (batch.claim.partition, batch.upto())).collect();
    let positions = tx.move_cursors(&read, plan.messages.len() + plan.changes.len()).await?;
    plan.write(tx, &positions, now).await?;
    Ok(plan.committed)
}

/// The room that an entry is about, if it can be stored.
fn room_of(entry: &Entry) -> Option<RoomId> {
    match &entry.content {
        EntryContent::Message(message) => Some(message.room),
        EntryContent::Change(change) => Some(change.room),
        EntryContent::Outbox(hint) => Some(hint.room),
        EntryContent::DeadLetter { .. } => None,
    }
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

const NO_ROOM: &str = "there is no such room";
const NO_SENDER: &str = "there is no such sender";

/// Where a change comes from: what its row has beside the change itself.
struct Origin {
    id: MessageId,
    sender: UserId,
    /// The message that it is about, if it is about one.
    target: Option<(MessageId, Seq)>,
    /// The user that it is about, if it is about one.
    member: Option<UserId>,
    created_on: Timestamp,
}

/// The rows of one commit. All of them are decided before any is written.
#[derive(Default)]
struct CommitPlan<'a> {
    messages: Vec<MessageRow<'a>>,
    changes: Vec<ChangeRow>,
    links: Links,
    dead: Vec<NewDeadLetter>,
    /// The head of every room that has entries and exists.
    heads: HashMap<RoomId, Head>,
    /// The messages that are stored or in this plan, by id.
    known: HashMap<MessageId, Known<'a>>,
    /// The changes that are stored or in this plan, by id.
    known_changes: HashMap<MessageId, Seq>,
    /// The messages that changes and replies of this plan are about.
    targets: Targets,
    reactions: Reactions,
    /// What waits in the outbox, by room.
    outbox: HashMap<RoomId, RoomOutbox>,
    /// The rows of it that have become entries.
    taken: Vec<i64>,
    /// The senders that exist, by id.
    senders: HashMap<UserId, Arc<Sender>>,
    /// Index in `committed.rooms` of each room that gets entries.
    room_index: HashMap<RoomId, usize>,
    committed: Committed,
}

impl<'a> CommitPlan<'a> {
    /// Reads what the decisions depend on. Batches without changes and replies, which is most of them, cost nothing for these.
    async fn load<T: CommitStatements>(
        tx: &mut T,
        batches: &'a [PartitionBatch],
        cache: &SenderCache,
    ) -> Result<Self, sqlx::Error> {
        let mut plan = Self::default();
        let (mut messages, mut changes) = (Vec::new(), Vec::new());
        for entry in batches.iter().flat_map(|batch| &batch.entries) {
            match &entry.content {
                EntryContent::Message(message) => messages.push(message),
                EntryContent::Change(change) => changes.push(change),
                EntryContent::Outbox(_) | EntryContent::DeadLetter { .. } => {}
            }
        }
        let rooms: HashSet<RoomId> = batches.iter().flat_map(|batch| &batch.entries).filter_map(room_of).collect();
        if rooms.is_empty() {
            return Ok(plan);
        }
        let rooms = tx.room_heads(&Vec::from_iter(rooms)).await?;
        let with_outbox: Vec<RoomId> = rooms.iter().filter(|room| room.has_outbox).map(|room| room.room).collect();
        plan.heads = rooms.into_iter().map(|room| (room.room, room.head)).collect();
        if !with_outbox.is_empty() {
            for row in tx.outbox(&with_outbox, OUTBOX_ROWS).await? {
                plan.outbox.entry(row.room).or_default().add(&row);
            }
        }
        if !messages.is_empty() {
            let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
            plan.add_known(tx.known_messages(&ids).await?)?;
            let derived = derived_ids(messages.iter().copied(), &plan.known);
            if !derived.is_empty() {
                plan.add_known(tx.known_messages(&derived).await?)?;
            }
        }
        if !changes.is_empty() {
            let ids: Vec<MessageId> = changes.iter().map(|change| change.id).collect();
            plan.known_changes = tx.known_changes(&ids).await?.into_iter().collect();
        }
        let replied_to = messages.iter().filter_map(|message| message.in_reply_to);
        let wanted: HashSet<MessageId> = replied_to.chain(changes.iter().map(|change| change.target)).collect();
        if !wanted.is_empty() {
            plan.targets = Targets::load(tx, wanted).await?;
            plan.reactions = Reactions::load(tx, &changes, &plan.targets).await?;
        }
        let senders = messages.iter().map(|message| message.sender).chain(changes.iter().map(|change| change.sender));
        let mentioned = messages.iter().flat_map(|message| message.mentions.iter().copied());
        let of_outbox = plan.outbox.values().flat_map(RoomOutbox::users);
        let unknown = cache.look_up(senders.chain(mentioned).chain(of_outbox), &mut plan.senders);
        if !unknown.is_empty() {
            let found = tx.senders(&Vec::from_iter(unknown)).await?;
            cache.insert(found, &mut plan.senders);
        }
        Ok(plan)
    }

    fn add_known(&mut self, rows: Vec<KnownRow>) -> Result<(), sqlx::Error> {
        for row in rows {
            let (id, known) = Known::stored(row)?;
            self.known.insert(id, known);
        }
        Ok(())
    }

    /// Adds an entry of the accept log as an entry of its room, a duplicate, a refusal or a dead letter.
    fn add(&mut self, partition: Partition, entry: &'a Entry) {
        let outcome = match &entry.content {
            EntryContent::Message(message) => {
                self.add_message(partition, message).map_err(|reason| (reason.to_owned(), message_to_json(message)))
            }
            EntryContent::Change(change) => {
                self.add_change(partition, change).map_err(|reason| (reason.to_owned(), change_to_json(change)))
            }
            EntryContent::Outbox(hint) => {
                self.add_outbox(partition, hint.room, |outbox| outbox.take_hinted(*hint));
                Ok(())
            }
            EntryContent::DeadLetter { reason, entry } => Err((reason.clone(), entry.clone())),
        };
        if let Err((reason, raw)) = outcome {
            self.set_aside(partition, entry.log_entry_id, &reason, &raw);
        }
    }

    /// Adds a message; an error says why it can never be stored.
    fn add_message(&mut self, partition: Partition, message: &'a Accepted) -> Result<(), &'static str> {
        self.add_outbox(partition, message.room, |outbox| outbox.take_admitting(message.sender, message.created_on));
        let Some(head) = self.heads.get_mut(&message.room) else {
            return Err(NO_ROOM);
        };
        let Some(sender) = self.senders.get(&message.sender) else {
            return Err(NO_SENDER);
        };
        let id = match self.known.get(&message.id) {
            Some(known) if !known.is(message) => message.id.derived_for(message.room, &message.text),
            Some(_) | None => message.id,
        };
        if let Some(known) = self.known.get(&id) {
            self.committed.duplicates.push((message.id, known.seq));
            return Ok(());
        }
        let replied_to = message.in_reply_to.map(|target| (target, self.targets.live_in(message.room, target)));
        if let Some((_, None)) = replied_to {
            self.committed.outcomes.push((message.id, Outcome::Refused(Refusal::NoSuchReply)));
            return Ok(());
        }
        let (seq, others) = head.add_message();
        let mentioned = message.mentions.iter().filter_map(|user| Some((*user, self.senders.get(user)?)));
        let extra = MessageExtra {
            reply_to: replied_to.map(|(target, _)| target),
            mentions: mentioned.clone().map(|(_, user)| user.username.clone()).collect(),
            ..MessageExtra::default()
        };
        self.links.mentions.extend(mentioned.map(|(user, _)| (user, message.room, seq)));
        let target_seq = replied_to.and_then(|(_, seq)| seq);
        self.links.replies.extend(target_seq.map(|target_seq| (message.room, target_seq, seq)));
        let stored = StoredMessage {
            seq,
            id,
            username: sender.username.clone(),
            public_id: sender.public_id.clone(),
            kind: MESSAGE_KIND.to_owned(),
            text: message.text.as_str().to_owned(),
            created_on: message.created_on,
            extra: extra.boxed(),
        };
        let known = Known {
            seq,
            room: message.room,
            text: message.text.as_str().into(),
            extra: stored.extra.clone(),
        };
        self.targets.add_new(&stored, message, self.messages.len());
        self.known.insert(id, known);
        let order = self.messages.len() + self.changes.len();
        self.messages.push(MessageRow::new(order, id, (seq, others), message, stored.extra.as_deref()));
        self.push(partition, message.room, RoomEntry::Message(stored));
        Ok(())
    }

    /// Adds a change if it is allowed and alters something; an error says why it can never be.
    fn add_change(&mut self, partition: Partition, change: &'a AcceptedChange) -> Result<(), &'static str> {
        self.add_outbox(partition, change.room, |outbox| outbox.take_admitting(change.sender, change.created_on));
        if !self.heads.contains_key(&change.room) {
            return Err(NO_ROOM);
        }
        if !self.senders.contains_key(&change.sender) {
            return Err(NO_SENDER);
        }
        let outcome = if let Some(seq) = self.known_changes.get(&change.id) {
            Outcome::Stored(*seq)
        } else {
            match self.targets.apply(change, &mut self.reactions) {
                Err(refusal) => Outcome::Refused(refusal),
                // Nothing is to be done, so nothing happens in the room.
                Ok((target_seq, None)) => Outcome::Stored(target_seq),
                Ok((target_seq, Some(altered))) => {
                    let origin = Origin {
                        id: change.id,
                        sender: change.sender,
                        target: Some((change.target, target_seq)),
                        member: None,
                        created_on: change.created_on,
                    };
                    let seq = self.store_change((partition, change.room), &origin, altered)?;
                    self.known_changes.insert(change.id, seq);
                    Outcome::Stored(seq)
                }
            }
        };
        self.committed.outcomes.push((change.id, outcome));
        Ok(())
    }

    /// Stores a change as the next entry of its room; an error says why it can never be.
    fn store_change(
        &mut self,
        (partition, room): (Partition, RoomId),
        origin: &Origin,
        change: Change,
    ) -> Result<Seq, &'static str> {
        let head = self.heads.get_mut(&room).ok_or(NO_ROOM)?;
        let sender = self.senders.get(&origin.sender).ok_or(NO_SENDER)?;
        let stored = StoredChange {
            seq: head.add_change(change.alters_message()),
            username: sender.username.clone(),
            public_id: sender.public_id.clone(),
            created_on: origin.created_on,
            change,
        };
        let (seq, (kind, detail)) = (stored.seq, encode_change(&stored.change));
        self.changes.push(ChangeRow {
            order: self.messages.len() + self.changes.len(),
            position: 0,
            room,
            seq,
            id: origin.id,
            sender: origin.sender,
            target: origin.target,
            member: origin.member,
            kind,
            detail,
            created_on: origin.created_on,
        });
        self.push(partition, room, RoomEntry::Change(stored));
        Ok(seq)
    }

    fn push(&mut self, partition: Partition, room: RoomId, entry: RoomEntry) {
        let rooms = &mut self.committed.rooms;
        let index = *self.room_index.entry(room).or_insert_with(|| {
            rooms.push(RoomEntries {
                partition,
                room,
                entries: Vec::new(),
            });
            rooms.len() - 1
        });
        rooms[index].entries.push(entry);
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

    /// Writes what was decided, each entry at one of `positions` (ascending), in their order.
    async fn write<T: CommitStatements>(
        &mut self,
        tx: &mut T,
        positions: &[i64],
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        let altered = self.targets.altered(&mut self.messages);
        self.set_positions(positions)?;
        if !self.messages.is_empty() {
            tx.insert_messages(&self.messages).await?;
        }
        // Before deletions, which clear those of a message that was posted and deleted in this commit.
        if !self.links.replies.is_empty() || !self.links.mentions.is_empty() {
            tx.insert_links(&self.links).await?;
        }
        if !self.taken.is_empty() {
            tx.remove_from_outbox(&self.taken).await?;
        }
        if !self.changes.is_empty() {
            tx.insert_changes(&self.changes).await?;
            self.write_altered(tx, &altered).await?;
        }
        let heads = self.new_heads();
        if !heads.is_empty() {
            tx.set_heads(&heads).await?;
        }
        if !self.dead.is_empty() {
            self.committed.dead_letters = tx.insert_dead_letters(&self.dead, now).await?;
        }
        Ok(())
    }

    /// Gives every row its position, in the order of the entries.
    fn set_positions(&mut self, positions: &[i64]) -> Result<(), sqlx::Error> {
        let position = |order: usize| {
            let too_few = || sqlx::Error::Decode("fewer positions were taken than there are entries".into());
            positions.get(order).copied().ok_or_else(too_few)
        };
        for row in &mut self.messages {
            row.position = position(row.order)?;
        }
        for row in &mut self.changes {
            row.position = position(row.order)?;
        }
        Ok(())
    }

    async fn write_altered<T: CommitStatements>(
        &self,
        tx: &mut T,
        altered: &[AlteredMessage],
    ) -> Result<(), sqlx::Error> {
        if !altered.is_empty() {
            search::reindex(tx, altered).await?;
            tx.alter_messages(altered).await?;
        }
        let (added, removed) = self.reactions.changed();
        if !added.is_empty() || !removed.is_empty() {
            tx.set_reactions(&added, &removed).await?;
        }
        let deleted = self.targets.deleted();
        if !deleted.is_empty() {
            tx.clear_deleted(&deleted).await?;
        }
        Ok(())
    }

    /// The heads of the rooms that get entries, with the positions of their last ones.
    fn new_heads(&self) -> Vec<NewHead> {
        let mut last: HashMap<RoomId, i64> = HashMap::new();
        let messages = self.messages.iter().map(|row| (row.message.room, row.position));
        for (room, position) in messages.chain(self.changes.iter().map(|row| (row.room, row.position))) {
            let known = last.entry(room).or_default();
            *known = position.max(*known);
        }
        let new_head = |of_room: &RoomEntries| {
            Some(NewHead {
                room: of_room.room,
                partition: of_room.partition,
                position: *last.get(&of_room.room)?,
                head: *self.heads.get(&of_room.room)?,
            })
        };
        self.committed.rooms.iter().filter_map(new_head).collect()
    }
}
