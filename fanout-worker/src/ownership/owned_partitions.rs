//! What this worker has, and what it may claim.
//!
//! Plain state without a connection: the pipeline changes it between two batches, and nobody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use shared::domain::{Fence, Partition, StreamId};
use shared::storage::Claim;
use tokio::time::Instant;

use super::View;

/// How much later than the loss of a partition a worker's view must be before the worker claims it again: longer than two
/// workers' views differ when both reach Redis, so that they do not take it from each other for ever. A worker that Redis
/// does not answer any more has no later view, and takes nothing back. While Redis takes its time for each look, the next
/// view may come up to 1.7 s after the loss: two looks of 0.7 s, of which the first had begun too early.
pub const RECLAIM_PAUSE: Duration = Duration::from_millis(300);

/// The claims of this worker.
#[derive(Debug, Default)]
pub struct OwnedPartitions {
    claims: BTreeMap<Partition, Claim>,
    /// By views of which time a partition that was taken from us may be claimed again.
    not_before: HashMap<Partition, Instant>,
}

impl OwnedPartitions {
    /// The claims, ascending by partition.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values()
    }

    /// How many partitions these are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// The claim of `partition`, if it is held.
    #[must_use]
    pub fn get(&self, partition: Partition) -> Option<&Claim> {
        self.claims.get(&partition)
    }

    /// Gives up everything that is not in `wanted`; returns how many partitions that were.
    pub fn keep(&mut self, wanted: &BTreeSet<Partition>) -> usize {
        let before = self.claims.len();
        self.claims.retain(|partition, _| wanted.contains(partition));
        // What is no longer ours and comes back later comes newly.
        self.not_before.retain(|partition, _| wanted.contains(partition));
        before - self.claims.len()
    }

    /// What is to be claimed of `wanted`, which follows from `view`.
    #[must_use]
    pub fn missing(&self, wanted: &BTreeSet<Partition>, view: &View) -> Vec<Partition> {
        let free = |partition: &&Partition| {
            !self.claims.contains_key(partition)
                && self.not_before.get(partition).is_none_or(|time| *time <= view.asked_at)
        };
        wanted.iter().filter(free).copied().collect()
    }

    /// Takes in what was claimed.
    pub fn take(&mut self, claims: impl IntoIterator<Item = Claim>) {
        for claim in claims {
            self.not_before.remove(&claim.partition);
            self.claims.insert(claim.partition, claim);
        }
    }

    /// Drops `partitions`, which another worker has taken or which must be read anew; they are claimed again if they are still
    /// ours by a view of [`RECLAIM_PAUSE`] after `now`.
    pub fn lose(&mut self, partitions: &[Partition], now: Instant) {
        for partition in partitions {
            self.claims.remove(partition);
            self.not_before.insert(*partition, now + RECLAIM_PAUSE);
        }
    }

    /// Drops everything, to be claimed again by a later view.
    pub fn lose_all(&mut self, now: Instant) {
        let all: Vec<Partition> = self.claims.keys().copied().collect();
        self.lose(&all, now);
    }

    /// Drops everything, and forgets what was lost.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is ours no longer by the `fences` that SQL has.
    #[must_use]
    pub fn outdated(&self, fences: &[(Partition, Fence)]) -> Vec<Partition> {
        let replaced =
            |(partition, fence): &&(Partition, Fence)| self.get(*partition).is_some_and(|claim| claim.fence < *fence);
        fences.iter().filter(replaced).map(|(partition, _)| *partition).collect()
    }

    /// Notes that everything of `partition` up to `cursor` is stored.
    pub fn advance(&mut self, partition: Partition, cursor: StreamId) {
        if let Some(claim) = self.claims.get_mut(&partition) {
            claim.cursor = cursor;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ownership::WorkerName;

    fn partitions(numbers: impl IntoIterator<Item = u16>) -> BTreeSet<Partition> {
        numbers.into_iter().map(Partition).collect()
    }

    fn holding(numbers: impl IntoIterator<Item = u16>) -> OwnedPartitions {
        let mut owned = OwnedPartitions::default();
        owned.take(numbers.into_iter().map(|number| Claim {
            partition: Partition(number),
            fence: Fence(1),
            cursor: StreamId::ZERO,
        }));
        owned
    }

    /// What a look told that was begun at `asked_at`, and is believed for long.
    fn view(asked_at: Instant) -> View {
        View {
            me: WorkerName::fresh(),
            living: Arc::new([]),
            asked_at,
            valid_until: asked_at + Duration::from_hours(1),
        }
    }

    #[test]
    fn what_is_not_wanted_is_given_up_and_what_is_missing_is_claimed() {
        let mut owned = holding(0..4);
        assert_eq!(owned.keep(&partitions(2..6)), 2);
        let missing = owned.missing(&partitions(2..6), &view(Instant::now()));
        assert_eq!((missing, owned.len()), (vec![Partition(4), Partition(5)], 2));
    }

    #[test]
    fn what_was_lost_is_claimed_again_only_by_a_later_view() {
        let mut owned = holding(0..2);
        let (wanted, now) = (partitions(0..2), Instant::now());
        owned.lose(&[Partition(1)], now);
        assert!(owned.missing(&wanted, &view(now)).is_empty());
        assert_eq!(owned.missing(&wanted, &view(now + RECLAIM_PAUSE)), [Partition(1)]);
    }

    #[test]
    fn what_was_dropped_to_be_read_anew_is_claimed_by_a_later_view() {
        let mut owned = holding(0..3);
        let (wanted, now) = (partitions(0..3), Instant::now());
        owned.lose_all(now);
        assert!(owned.is_empty() && owned.missing(&wanted, &view(now)).is_empty());
        assert_eq!(owned.missing(&wanted, &view(now + RECLAIM_PAUSE)).len(), 3);
    }

    #[test]
    fn what_has_a_higher_fence_in_sql_is_ours_no_longer() {
        let owned = holding(0..3);
        // An answer may be older than a claim of ours, and speaks of all partitions.
        let seen = [(0, 0), (1, 2), (2, 1), (3, 7)].map(|(partition, fence)| (Partition(partition), Fence(fence)));
        assert_eq!(owned.outdated(&seen), [Partition(1)]);
    }

    #[test]
    fn what_went_to_another_worker_meanwhile_and_comes_back_is_claimed_at_once() {
        let mut owned = holding(0..2);
        let now = Instant::now();
        owned.lose(&[Partition(1)], now);
        owned.keep(&partitions(0..1));
        assert_eq!(owned.missing(&partitions(0..2), &view(now)), [Partition(1)]);
    }
}
