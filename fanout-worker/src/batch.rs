//! Splits read batches into transactions. In the order of each partition, a later part begins where the one before it ends.

use shared::storage::{Claim, Entry, PartitionBatch};

/// Splits `batches` into transactions of at most `max_rows` rows and about `max_bytes` bytes.
#[must_use]
pub fn split(batches: Vec<PartitionBatch>, max_rows: usize, max_bytes: usize) -> Vec<Vec<PartitionBatch>> {
    let mut parts: Vec<Vec<PartitionBatch>> = Vec::new();
    let mut part: Vec<PartitionBatch> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for batch in batches {
        let mut claim = batch.claim;
        let mut entries: Vec<Entry> = Vec::new();
        for entry in batch.entries {
            if rows > 0 && (rows >= max_rows || bytes >= max_bytes) {
                let done = close(&mut claim, &mut entries);
                part.extend(done);
                parts.push(std::mem::take(&mut part));
                (rows, bytes) = (0, 0);
            }
            (rows, bytes) = (rows + 1, bytes + entry.size());
            entries.push(entry);
        }
        part.extend(close(&mut claim, &mut entries));
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// A batch of the `entries` collected so far, if any; `claim` moves behind them.
fn close(claim: &mut Claim, entries: &mut Vec<Entry>) -> Option<PartitionBatch> {
    let batch = PartitionBatch {
        claim: *claim,
        entries: std::mem::take(entries),
    };
    claim.cursor = batch.upto();
    (!batch.entries.is_empty()).then_some(batch)
}

/// Splits a batch of several entries in two, to be stored one after the other.
#[must_use]
pub fn halves(batches: &[PartitionBatch]) -> Option<(Vec<PartitionBatch>, Vec<PartitionBatch>)> {
    let count: usize = batches.iter().map(|batch| batch.entries.len()).sum();
    let mut parts = split(batches.to_vec(), count / 2, usize::MAX).into_iter();
    match (parts.next(), parts.next()) {
        (Some(first), Some(second)) => Some((first, parts.fold(second, join))),
        _ => None,
    }
}

/// Puts a later part behind an earlier one.
fn join(mut earlier: Vec<PartitionBatch>, later: Vec<PartitionBatch>) -> Vec<PartitionBatch> {
    for batch in later {
        match earlier.iter_mut().find(|other| other.claim.partition == batch.claim.partition) {
            Some(other) => other.entries.extend(batch.entries),
            None => earlier.push(batch),
        }
    }
    earlier
}

#[cfg(test)]
mod tests {
    use shared::domain::{Fence, LogEntryId, Partition};
    use shared::storage::EntryContent;

    use super::*;

    fn batch(partition: u16, ids: std::ops::RangeInclusive<i64>) -> PartitionBatch {
        let entries = ids.clone().map(|counter| Entry {
            log_entry_id: LogEntryId { ms: 1, counter },
            content: EntryContent::DeadLetter {
                reason: String::new(),
                entry: "12345".to_owned(),
            },
        });
        PartitionBatch {
            claim: Claim {
                partition: Partition(partition),
                fence: Fence(1),
                cursor: LogEntryId {
                    ms: 1,
                    counter: ids.start() - 1,
                },
            },
            entries: entries.collect(),
        }
    }

    fn shape(parts: &[Vec<PartitionBatch>]) -> Vec<Vec<(u16, i64, i64)>> {
        let one = |b: &PartitionBatch| (b.claim.partition.0, b.claim.cursor.counter, b.upto().counter);
        parts.iter().map(|part| part.iter().map(one).collect()).collect()
    }

    #[test]
    fn part_begins_where_the_one_before_ends() {
        let parts = split(vec![batch(1, 1..=3), batch(2, 1..=4)], 2, usize::MAX);
        assert_eq!(
            shape(&parts),
            [
                vec![(1, 0, 2)],
                vec![(1, 2, 3), (2, 0, 1)],
                vec![(2, 1, 3)],
                vec![(2, 3, 4)]
            ]
        );
    }

    #[test]
    fn part_ends_when_it_is_large_enough() {
        let parts = split(vec![batch(1, 1..=4)], 100, 10);
        assert_eq!(shape(&parts), [vec![(1, 0, 2)], vec![(1, 2, 4)]]);
    }

    #[test]
    fn refused_batch_is_halved_down_to_one_entry() {
        let (first, second) = halves(&[batch(1, 1..=2), batch(2, 1..=3)]).unwrap();
        assert_eq!(shape(&[first, second]), [vec![(1, 0, 2)], vec![(2, 0, 3)]]);
        assert!(halves(&[batch(1, 5..=5)]).is_none());
    }
}
