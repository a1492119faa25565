//! The statements of a commit, which each back end implements on its connection, and the rows that they read and write.

use uuid::Uuid;

use super::commit::Claim;
use super::senders::Sender;
use crate::domain::{Accepted, LogEntryId, MessageId, Partition, RoomId, Seq, Timestamp, UserId};

/// The statements of a commit, run in an open transaction.
pub(super) trait CommitStatements: Send {
    /// Reads the cursors of `partitions` and locks them until the transaction ends.
    ///
    /// They are locked in ascending order: of two workers that share several partitions, one then waits for the other instead
    /// of each waiting for the other.
    fn lock_cursors(&mut self, partitions: &[Partition]) -> impl Future<Output = Rows<Claim>> + Send;

    /// Moves cursors.
    fn move_cursors(&mut self, to: &[(Partition, LogEntryId)]) -> impl Future<Output = Written> + Send;

    /// The last seq of each of `rooms` that exists or existed. A deleted room still stores what was accepted for it.
    fn room_heads(&mut self, rooms: &[RoomId]) -> impl Future<Output = Rows<(RoomId, Seq)>> + Send;

    /// The stored messages with these `ids`.
    fn known_messages(&mut self, ids: &[MessageId]) -> impl Future<Output = Rows<KnownRow>> + Send;

    /// The username and public id of each of `users` that exists.
    fn senders(&mut self, users: &[UserId]) -> impl Future<Output = Rows<(UserId, Sender)>> + Send;

    /// Writes messages. Their positions increase in the order given.
    fn insert_messages(&mut self, rows: &[MessageRow<'_>]) -> impl Future<Output = Written> + Send;

    /// Writes the last seqs of rooms.
    fn set_heads(&mut self, heads: &[(RoomId, Seq)]) -> impl Future<Output = Written> + Send;

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

/// A message to be written, of the kind [`MESSAGE_KIND`](crate::domain::MESSAGE_KIND).
pub(super) struct MessageRow<'a> {
    pub(super) seq: Seq,
    /// Its own id, or one derived from it if another message has its own.
    pub(super) id: MessageId,
    pub(super) message: &'a Accepted,
}

/// A stored message: its id, seq, room and text.
pub(super) type KnownRow = (Uuid, i64, i64, String);

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
