//! The partitions that this worker owns, and those that it may claim.
//!
//! This is plain state without a connection. Only the pipeline's reducer changes it, between two batches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use shared::domain::{Fence, LogEntryId, Partition};
use shared::storage::Claim;
use tokio::time::Instant;

use super::View;

/// How much later than the loss of a partition a worker's view must be before the worker claims the partition again: longer than
/// two workers' views differ when both reach Redis, so that they do not take it from each other for ever. A worker that Redis
/// does not answer has no later view, and claims nothing back. While Redis is slow, the next view may come up to 1.7 s after the
/// loss: two heartbeats of 0.7 s, of which the first had begun too early.
pub const RECLAIM_PAUSE: Duration = Duration::from_millis(300);

/// The claims of this worker.
#[derive(Debug, Default)]
pub struct OwnedPartitions {
    claims: BTreeMap<Partition, Claim>,
    /// The earliest view by which a partition that was lost may be claimed again.
    not_before: HashMap<Partition, Instant>,
}

impl OwnedPartitions {
    /// The claims, ascending by partition.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values()
    }

    /// How many partitions this worker owns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether this worker owns none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// The claim of `partition`, if this worker owns it.
    #[must_use]
    pub fn get(&self, partition: Partition) -> Option<&Claim> {
        self.claims.get(&partition)
    }

    /// Gives up everything that is not in `wanted`, and returns how many partitions that were.
    pub fn retain(&mut self, wanted: &BTreeSet<Partition>) -> usize {
        let before = self.claims.len();
        self.claims.retain(|partition, _| wanted.contains(partition));
        // A partition that goes to another worker and comes back later is claimed at once.
        self.not_before.retain(|partition, _| wanted.contains(partition));
        before - self.claims.len()
    }

    /// The partitions of `wanted`, which follows from `view`, that this worker may claim.
    #[must_use]
    pub fn claimable(&self, wanted: &BTreeSet<Partition>, view: &View) -> Vec<Partition> {
        let free = |partition: &&Partition| {
            !self.claims.contains_key(partition)
                && self.not_before.get(partition).is_none_or(|time| *time <= view.asked_at)
        };
        wanted.iter().filter(free).copied().collect()
    }

    /// Adds what was claimed.
    pub fn add(&mut self, claims: impl IntoIterator<Item = Claim>) {
        for claim in claims {
            self.not_before.remove(&claim.partition);
            self.claims.insert(claim.partition, claim);
        }
    }

    /// Drops `partitions`, which another worker has claimed or which must be read anew. They may be claimed again by a view of
    /// [`RECLAIM_PAUSE`] after `now`.
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

    /// Drops everything, and forgets which partitions were lost.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The partitions that another worker has claimed, by the `fences` in SQL.
    #[must_use]
    pub fn outdated(&self, fences: &[(Partition, Fence)]) -> Vec<Partition> {
        let replaced =
            |(partition, fence): &&(Partition, Fence)| self.get(*partition).is_some_and(|claim| claim.fence < *fence);
        fences.iter().filter(replaced).map(|(partition, _)| *partition).collect()
    }

    /// Moves the cursor of `partition`: everything up to it is stored.
    pub fn advance(&mut self, partition: Partition, cursor: LogEntryId) {
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

    fn owning(numbers: impl IntoIterator<Item = u16>) -> OwnedPartitions {
        let mut owned = OwnedPartitions::default();
        owned.add(numbers.into_iter().map(|number| Claim {
            partition: Partition(number),
            fence: Fence(1),
            cursor: LogEntryId::ZERO,
        }));
        owned
    }

    /// The view of a heartbeat that began at `asked_at`. It is valid for long.
    fn view(asked_at: Instant) -> View {
        View {
            me: WorkerName::fresh(),
            living: Arc::new([]),
            asked_at,
            valid_until: asked_at + Duration::from_hours(1),
        }
    }

    #[test]
    fn unassigned_is_given_up_and_assigned_is_claimable() {
        let mut owned = owning(0..4);
        assert_eq!(owned.retain(&partitions(2..6)), 2);
        let claimable = owned.claimable(&partitions(2..6), &view(Instant::now()));
        assert_eq!((claimable, owned.len()), (vec![Partition(4), Partition(5)], 2));
    }

    #[test]
    fn lost_partition_is_claimable_by_a_later_view_only() {
        let mut owned = owning(0..2);
        let (wanted, now) = (partitions(0..2), Instant::now());
        owned.lose(&[Partition(1)], now);
        assert!(owned.claimable(&wanted, &view(now)).is_empty());
        assert_eq!(owned.claimable(&wanted, &view(now + RECLAIM_PAUSE)), [Partition(1)]);
    }

    #[test]
    fn everything_lost_is_claimable_by_a_later_view() {
        let mut owned = owning(0..3);
        let (wanted, now) = (partitions(0..3), Instant::now());
        owned.lose_all(now);
        assert!(owned.is_empty() && owned.claimable(&wanted, &view(now)).is_empty());
        assert_eq!(owned.claimable(&wanted, &view(now + RECLAIM_PAUSE)).len(), 3);
    }

    #[test]
    fn higher_fence_in_sql_outdates_a_claim() {
        let owned = owning(0..3);
        // An answer may be older than a claim, and holds all partitions.
        let fences = [(0, 0), (1, 2), (2, 1), (3, 7)].map(|(partition, fence)| (Partition(partition), Fence(fence)));
        assert_eq!(owned.outdated(&fences), [Partition(1)]);
    }

    #[test]
    fn partition_that_comes_back_is_claimable_at_once() {
        let mut owned = owning(0..2);
        let now = Instant::now();
        owned.lose(&[Partition(1)], now);
        owned.retain(&partitions(0..1));
        assert_eq!(owned.claimable(&partitions(0..2), &view(now)), [Partition(1)]);
    }
}
