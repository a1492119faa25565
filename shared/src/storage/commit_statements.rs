//! The statements of a commit, which each back end implements on its connection, and the rows that they read and write.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::commit::Claim;
use super::commit_plan::{ReactionKey, encode_extra};
use super::outbox::OutboxRow;
use super::search::PageStatements;
use super::senders::Sender;
use crate::domain::{
    Accepted, Change, Emoji, LogEntryId, MessageExtra, MessageId, Partition, RoomId, Seq, Timestamp, UserId,
};

/// The statements of a commit, run in an open transaction.
pub(super) trait CommitStatements: PageStatements + Send {
    /// Reads the cursors of `partitions` and locks them until the transaction ends.
    ///
    /// They are locked in ascending order: of two workers that share several partitions, one then waits for the other instead
    /// of each waiting for the other.
    fn lock_cursors(&mut self, partitions: &[Partition]) -> impl Future<Output = Rows<Claim>> + Send;

    /// Moves cursors, and takes `count` positions, ascending, above all that were taken before. It is one statement, since a
    /// commit waits for each.
    fn move_cursors(&mut self, to: &[(Partition, LogEntryId)], count: usize) -> impl Future<Output = Rows<i64>> + Send;

    /// The head of each of `rooms` that exists or existed. A deleted room still stores what was accepted for it.
    fn room_heads(&mut self, rooms: &[RoomId]) -> impl Future<Output = Rows<RoomState>> + Send;

    /// The rows of the outbox about `rooms`, the oldest first, at most `limit`.
    fn outbox(&mut self, rooms: &[RoomId], limit: u32) -> impl Future<Output = Rows<OutboxRow>> + Send;

    /// Removes rows of the outbox.
    fn remove_from_outbox(&mut self, ids: &[i64]) -> impl Future<Output = Written> + Send;

    /// The stored messages with these `ids`.
    fn known_messages(&mut self, ids: &[MessageId]) -> impl Future<Output = Rows<KnownRow>> + Send;

    /// Which of the changes with these `ids` are stored, with their seqs.
    fn known_changes(&mut self, ids: &[MessageId]) -> impl Future<Output = Rows<(MessageId, Seq)>> + Send;

    /// The stored messages with these `ids`, with what a change of them depends on.
    fn targets(&mut self, ids: &[MessageId]) -> impl Future<Output = Rows<TargetRow>> + Send;

    /// The indexes of those `keys` that are stored.
    fn reactions_among(&mut self, keys: &[ReactionKey]) -> impl Future<Output = Rows<usize>> + Send;

    /// The username and public id of each of `users` that exists.
    fn senders(&mut self, users: &[UserId]) -> impl Future<Output = Rows<(UserId, Sender)>> + Send;

    /// Writes messages.
    fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> impl Future<Output = Written> + Send;

    /// Writes changes.
    fn insert_changes(&mut self, rows: &[ChangeRow]) -> impl Future<Output = Written> + Send;

    /// Replaces what stored messages hold now.
    fn alter_messages(&mut self, messages: &[AlteredMessage]) -> impl Future<Output = Written> + Send;

    /// Adds and removes reactions.
    fn set_reactions(&mut self, added: &[ReactionKey], removed: &[ReactionKey])
    -> impl Future<Output = Written> + Send;

    /// Removes the reactions to deleted `messages` and the mentions in them.
    fn clear_deleted(&mut self, messages: &[(RoomId, Seq)]) -> impl Future<Output = Written> + Send;

    /// Writes which messages reply to which, and whom they mention.
    fn insert_links(&mut self, links: &Links) -> impl Future<Output = Written> + Send;

    /// Writes the heads of rooms.
    fn set_heads(&mut self, heads: &[NewHead]) -> impl Future<Output = Written> + Send;

    /// Writes those of `rows` that are not stored yet, and returns how many it wrote.
    ///
    /// A row with the same position and the same entry is the same: a worker that ended before it trimmed the log reads its
    /// last entries again. The position alone does not identify an entry, since a Redis that was restored to an older state
    /// gives it to another one. Nobody else writes the same row meanwhile, because the cursor of its partition is locked.
    fn insert_dead_letters(
        &mut self,
        rows: &[NewDeadLetter],
        now: Timestamp,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
}

type Rows<T> = Result<Vec<T>, sqlx::Error>;
type Written = Result<(), sqlx::Error>;

/// The head of a room's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Its last seq.
    pub(super) seq: Seq,
    /// How many of its entries are not messages.
    pub(super) others: i64,
    /// The seq of the last entry that altered a message.
    pub(super) changed: Seq,
}

/// The head of a room, to be written.
pub(super) struct NewHead {
    pub(super) room: RoomId,
    /// The partition that its last entry came through.
    pub(super) partition: Partition,
    /// The position of its last entry.
    pub(super) position: i64,
    pub(super) head: Head,
}

impl Head {
    /// Counts a message; returns its seq, and how many entries before it are not messages.
    pub(super) fn add_message(&mut self) -> (Seq, i64) {
        self.seq = self.seq.next();
        (self.seq, self.others)
    }

    /// Counts a change, which alters a message or not, and returns its seq.
    pub(super) fn add_change(&mut self, alters_message: bool) -> Seq {
        self.seq = self.seq.next();
        self.others += 1;
        if alters_message {
            self.changed = self.seq;
        }
        self.seq
    }
}

/// A room at the beginning of a commit.
pub(super) struct RoomState {
    pub(super) room: RoomId,
    pub(super) head: Head,
    /// Whether the outbox has rows about it.
    pub(super) has_outbox: bool,
}

/// A row of a room's state: the room, the last seq, the entries that are not messages, the last that altered one, and whether
/// the outbox has rows about it.
pub(super) type RoomStateRow = (i64, i64, i64, i64, bool);

/// Converts rows of rooms.
pub(super) fn decode_room_states(rows: Vec<RoomStateRow>) -> Vec<RoomState> {
    let read = |(room, seq, others, changed, has_outbox)| RoomState {
        room: RoomId(room),
        head: Head {
            seq: Seq(seq),
            others,
            changed: Seq(changed),
        },
        has_outbox,
    };
    rows.into_iter().map(read).collect()
}

/// A message to be written, of the kind [`MESSAGE_KIND`](crate::domain::MESSAGE_KIND).
pub(super) struct MessageRow<'a> {
    /// Which of the rows of its commit it is.
    pub(super) order: usize,
    /// Its position, once the commit has taken positions.
    pub(super) position: i64,
    pub(super) seq: Seq,
    /// How many entries of the room before it are not messages.
    pub(super) others: i64,
    /// Its own id, or one derived from it if another message has its own.
    pub(super) id: MessageId,
    pub(super) message: &'a Accepted,
    /// Its text, which may have been changed in the same commit.
    pub(super) text: Cow<'a, str>,
    /// Its [`MessageExtra`] in JSON.
    pub(super) extra: Option<String>,
}

impl<'a> MessageRow<'a> {
    /// The row of `message` under `id`, with its seq and the number of other entries before it.
    pub(super) fn new(
        order: usize,
        id: MessageId,
        (seq, others): (Seq, i64),
        message: &'a Accepted,
        extra: Option<&MessageExtra>,
    ) -> Self {
        Self {
            order,
            position: 0,
            seq,
            others,
            id,
            message,
            text: message.text.as_str().into(),
            extra: extra.and_then(encode_extra),
        }
    }

    /// Replaces what it holds.
    pub(super) fn alter(&mut self, text: &str, extra: Option<String>) {
        self.text = text.to_owned().into();
        self.extra = extra;
    }
}

/// A change to be written.
pub(super) struct ChangeRow {
    /// Which of the rows of its commit it is.
    pub(super) order: usize,
    /// Its position, once the commit has taken positions.
    pub(super) position: i64,
    pub(super) room: RoomId,
    pub(super) seq: Seq,
    /// That of the request; a fresh one for what comes from the outbox.
    pub(super) id: MessageId,
    pub(super) sender: UserId,
    /// The message that it is about, if it is about one.
    pub(super) target: Option<(MessageId, Seq)>,
    /// The user that it is about, if it is about one.
    pub(super) member: Option<UserId>,
    pub(super) kind: &'static str,
    /// What its kind has beside these, in JSON.
    pub(super) detail: Option<String>,
    pub(super) created_on: Timestamp,
}

/// The kinds of changes as SQL names them.
pub(super) mod kind {
    pub(in crate::storage) const EDIT: &str = "edit";
    pub(in crate::storage) const DELETE: &str = "delete";
    pub(in crate::storage) const REACTION: &str = "reaction";
    pub(in crate::storage) const MEMBER: &str = "member";
    pub(in crate::storage) const ROOM: &str = "room";
}

/// What SQL keeps of a reaction in `changes.detail`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReactionDetail {
    pub(super) emoji: Emoji,
    pub(super) on: bool,
    pub(super) count: u32,
}

/// What SQL keeps of a change in `changes.kind` and `changes.detail`: nothing of a text, which is in the row of the message, where
/// it can be deleted.
pub(super) fn encode_change(change: &Change) -> (&'static str, Option<String>) {
    match change {
        Change::Edit { .. } => (kind::EDIT, None),
        Change::Delete { .. } => (kind::DELETE, None),
        Change::Reaction { emoji, on, count, .. } => {
            let detail = ReactionDetail {
                emoji: emoji.clone(),
                on: *on,
                count: *count,
            };
            (kind::REACTION, Some(encode_detail(&detail)))
        }
        Change::Member { change, .. } => (kind::MEMBER, Some(encode_detail(change))),
        Change::Room(change) => (kind::ROOM, Some(encode_detail(change))),
    }
}

/// The detail of a change as SQL keeps it.
pub(super) fn encode_detail(detail: &impl Serialize) -> String {
    serde_json::to_string(detail).expect("it has string keys only and no failing parts")
}

/// What a stored message holds from now on.
#[derive(Debug, Serialize)]
pub(super) struct AlteredMessage {
    pub(super) room: RoomId,
    pub(super) seq: Seq,
    pub(super) text: String,
    pub(super) extra: Option<String>,
    /// Who sent it, and the text that it loses, if it does, for the index of words.
    #[serde(skip)]
    pub(super) sender: UserId,
    #[serde(skip)]
    pub(super) old_text: Option<String>,
}

/// Which messages reply to which, and whom they mention.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Room, seq of the message, seq of the reply.
    pub(super) replies: Vec<(RoomId, Seq, Seq)>,
    /// User, room, seq of the message.
    pub(super) mentions: Vec<(UserId, RoomId, Seq)>,
}

/// A stored message: its id, seq, room, text and extra.
pub(super) type KnownRow = (Uuid, i64, i64, String, Option<String>);

/// A stored message that a change may be about: its id, room, seq, sender, time, text and extra.
pub(super) type TargetRow = (Uuid, i64, i64, i64, i64, String, Option<String>);

/// A dead letter to be written.
pub(super) struct NewDeadLetter {
    pub(super) partition: Partition,
    pub(super) log_entry_id: LogEntryId,
    pub(super) reason: String,
    pub(super) entry: String,
}

impl NewDeadLetter {
    /// Compares as the back ends compare with stored rows. The reason does not count, since a later version may word it in
    /// another way.
    pub(super) fn is_same_entry(&self, other: &Self) -> bool {
        (self.partition, self.log_entry_id, &self.entry) == (other.partition, other.log_entry_id, &other.entry)
    }
}
