//! Positions of entries: what a reader of many rooms resumes from.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Position, RoomId, Seq};

/// The last position that was taken, and what tells whether a commit that took an earlier one may still be open.
///
/// Commits of different partitions end in another order than the one in which they took their positions. So the last position of one
/// sample is final when a later sample confirms it: [`HorizonSample::is_confirmed_by`]. On Postgres that takes until every transaction
/// of the server that was writing then has ended, those of other databases included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HorizonSample {
    /// The last position that was taken.
    pub last: Position,
    /// Every transaction that took a position up to `last` has an id below this. SQLite, where one transaction writes at a time: 0.
    pub next_transaction: i64,
    /// No transaction with an id below this is open. SQLite: 0.
    pub oldest_transaction: i64,
}

impl HorizonSample {
    /// Whether a sample that was requested after this one was returned shows that every transaction that took a position up to
    /// `self.last` has ended: nothing can be committed any more at or below it.
    #[must_use]
    pub fn is_confirmed_by(&self, later: &Self) -> bool {
        later.oldest_transaction >= self.next_transaction
    }
}

/// Positions of entries.
#[async_trait]
pub trait Positions {
    /// The last seq of each of `rooms` whose entry has at most this position, by id; [`Seq::ZERO`] if there is none. It takes steps in the order
    /// of the logarithm of the entries above the position.
    async fn seqs_at(&self, rooms: &[RoomId], position: Position) -> Result<Vec<(RoomId, Seq)>, StoreError>;

    /// The last position that was taken.
    async fn horizon_sample(&self) -> Result<HorizonSample, StoreError>;
}

/// Converts rows of rooms and seqs, which come in any order.
pub(super) fn decode_seqs(rows: Vec<(i64, i64)>) -> Vec<(RoomId, Seq)> {
    let mut seqs: Vec<_> = rows.into_iter().map(|(room, seq)| (RoomId(room), Seq(seq))).collect();
    seqs.sort_unstable();
    seqs
}
