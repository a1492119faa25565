//! Assigns partitions to the living workers by rendezvous hashing: a pure function, so that all workers compute the same.
//!
//! Rendezvous hashing (highest random weight; Thaler & Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
//! IEEE/ACM Transactions on Networking 6(1), 1998): every pair of worker and partition has a weight, and the heaviest
//! worker gets the partition. When a worker leaves, only its partitions get another owner; when one joins, it takes only what
//! becomes its own.

use std::collections::BTreeSet;

use shared::domain::Partition;
use shared::storage::Writers;

use super::WorkerName;

/// The partitions that `me` should own while `living` are the workers, of those from 0 to below `partitions`.
#[must_use]
pub fn assigned(writers: Writers, living: &[WorkerName], me: &WorkerName, partitions: u16) -> BTreeSet<Partition> {
    let all = (0..partitions).map(Partition);
    match writers {
        // Names sort by the time at which they were created.
        Writers::One if living.iter().min() == Some(me) => all.collect(),
        Writers::One => BTreeSet::new(),
        Writers::Many => all.filter(|partition| owner(living, *partition) == Some(me)).collect(),
    }
}

/// The worker that should own `partition`; `None` if no worker lives.
#[must_use]
pub fn owner(living: &[WorkerName], partition: Partition) -> Option<&WorkerName> {
    // Equal weights are nearly impossible; the name decides then, so that all workers decide alike.
    living.iter().max_by_key(|name| (weight(name, partition), *name))
}

/// FNV-1a (Fowler, Noll, Vo; 64 bits) of the name and the partition's number, mixed by the finaliser of SplitMix64
/// (Steele, Lea, Flood 2014), since FNV alone gives similar weights to names that differ in their last characters only.
///
/// It must never change: workers of two versions that run side by side for an upgrade would disagree.
fn weight(name: &WorkerName, partition: Partition) -> u64 {
    let bytes = name.as_str().bytes().chain(partition.0.to_be_bytes());
    let mut hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    const PARTITIONS: u16 = 64;

    /// Some living workers, each with a different name.
    fn living() -> impl Strategy<Value = Vec<WorkerName>> {
        let names = btree_set(any::<u128>(), 1..12);
        names.prop_map(|ids| ids.into_iter().map(|id| WorkerName::from(uuid::Uuid::from_u128(id))).collect())
    }

    proptest! {
        #[test]
        fn every_partition_has_exactly_one_owner(living in living(), many: bool) {
            let writers = if many { Writers::Many } else { Writers::One };
            let mut owned: Vec<Partition> =
                living.iter().flat_map(|me| assigned(writers, &living, me, PARTITIONS)).collect();
            owned.sort_unstable();
            prop_assert_eq!(owned, (0..PARTITIONS).map(Partition).collect::<Vec<_>>());
        }

        #[test]
        fn order_of_the_living_does_not_matter(living in living()) {
            let turned: Vec<_> = living.iter().rev().cloned().collect();
            for partition in (0..PARTITIONS).map(Partition) {
                prop_assert_eq!(owner(&living, partition), owner(&turned, partition));
            }
        }

        #[test]
        fn leaving_worker_moves_its_own_partitions_alone(living in living(), which: prop::sample::Index) {
            let one = which.get(&living).clone();
            let others: Vec<_> = living.iter().filter(|name| **name != one).cloned().collect();
            for partition in (0..PARTITIONS).map(Partition) {
                let with = owner(&living, partition);
                prop_assert!(with == Some(&one) || with == owner(&others, partition));
            }
        }

        #[test]
        fn newcomer_changes_nothing_with_one_writer(living in living(), newcomer in any::<u128>()) {
            let oldest = living.iter().min().cloned().unwrap();
            let newcomer = WorkerName::from(uuid::Uuid::from_u128(newcomer));
            prop_assume!(newcomer > oldest);
            let more = [living, vec![newcomer]].concat();
            prop_assert_eq!(assigned(Writers::One, &more, &oldest, PARTITIONS).len(), usize::from(PARTITIONS));
        }
    }

    #[test]
    fn dead_worker_owns_nothing() {
        let me = WorkerName::fresh();
        for writers in [Writers::One, Writers::Many] {
            assert!(assigned(writers, &[], &me, PARTITIONS).is_empty());
            assert!(assigned(writers, &[WorkerName::fresh()], &me, PARTITIONS).is_empty());
        }
    }

    #[test]
    fn share_of_a_worker_is_fair() {
        const MANY: u16 = 1024;
        for count in [2_usize, 4, 8] {
            // Started within the same second: their names are nearly alike.
            let living: Vec<_> = (0..count).map(|_| WorkerName::fresh()).collect();
            let fair = usize::from(MANY) / count;
            for me in &living {
                let share = assigned(Writers::Many, &living, me, MANY).len();
                // Six standard deviations of a binomial distribution: one run in a hundred million fails.
                let deviation = 6 * fair.isqrt();
                assert!(share.abs_diff(fair) < deviation, "{share} of {MANY} for one of {count} workers");
            }
        }
    }

    #[test]
    fn owner_of_a_partition_never_changes() {
        let living: Vec<_> = (1..=3).map(|id| WorkerName::from(uuid::Uuid::from_u128(id))).collect();
        let owners: Vec<usize> = (0..8)
            .map(|partition| {
                let owner = owner(&living, Partition(partition)).unwrap();
                living.iter().position(|name| name == owner).unwrap()
            })
            .collect();
        assert_eq!(owners, [0, 0, 0, 1, 2, 0, 0, 2]);
    }
}
