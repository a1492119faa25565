//! Stores what was read: transient failures are retried for a while, what can never be stored is set aside, and what
//! another worker has taken over is left to it.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::{Partition, Timestamp};
use shared::storage::{AppendError, Appended, Claim, Entry, PartitionBatch, Store};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::crash_point;

/// Rows of one transaction at most.
pub const MAX_ROWS: usize = 500;

/// Bytes of text in one transaction at most, the last row aside.
pub const MAX_BYTES: usize = 1024 * 1024;

/// How long storing may fail or hang until this worker leaves its partitions to others, who may reach the database.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Pause after a transient failure: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Why something was not stored, or is not known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    /// Storage failed or hung for [`PATIENCE`]. A commit that hung may still come to its end.
    StorageAway,
    /// The stop signal came while storage was failing.
    Stopped,
}

/// What became of a batch.
#[derive(Default)]
pub struct Persisted {
    /// What each transaction stored.
    pub stored: Vec<Appended>,
    /// Partitions of the batch that are no longer ours, or whose cursor stands elsewhere since the reply to an earlier
    /// commit was lost. Nothing of them is in `stored`, unless it was before they were lost.
    pub lost: Vec<Partition>,
}

/// Stores `batches` in one transaction, or in several if some of it cannot be stored.
///
/// Gives up when storage fails for too long, or when `stop` is cancelled while it fails.
pub async fn persist(
    store: &Store,
    batches: Vec<PartitionBatch>,
    stop: &CancellationToken,
) -> Result<Persisted, GaveUp> {
    let mut persisted = Persisted::default();
    // What is left to do, the next at the end: a refused batch comes back as its two halves.
    let mut waiting = vec![batches];
    while let Some(mut batches) = waiting.pop() {
        batches.retain(|batch| !persisted.lost.contains(&batch.claim.partition));
        if batches.is_empty() {
            continue;
        }
        let batches: Arc<[PartitionBatch]> = batches.into();
        match append(store, &batches, stop).await? {
            Attempt::Stored(appended) => persisted.stored.push(appended),
            Attempt::Lost(partitions) => {
                info!(?partitions, "other workers have taken over partitions, or a commit's reply was lost");
                persisted.lost.extend(partitions);
                waiting.push(batches.to_vec());
            }
            Attempt::Refused => match halves(&batches) {
                Some((first, second)) => waiting.extend([second, first]),
                None => waiting.push(set_aside(&batches)),
            },
        }
    }
    Ok(persisted)
}

/// How trying to store a batch ended.
enum Attempt {
    /// All of it is stored.
    Stored(Appended),
    /// Nothing is, since these partitions are not ours.
    Lost(Vec<Partition>),
    /// Nothing is, since the database refuses some of the data.
    Refused,
}

/// Tries to store `batches` until the outcome is known.
async fn append(store: &Store, batches: &Arc<[PartitionBatch]>, stop: &CancellationToken) -> Result<Attempt, GaveUp> {
    let mut pause = PAUSE.0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let written = crash_point::reached("before_commit");
        let appending = store.append(Arc::clone(batches), Timestamp::now(), written);
        // The store brings the transaction to its end even if nobody waits for it any more. The next attempt on these
        // partitions, by whomever, then finds their cursors moved.
        let Ok(appended) = timeout_at(deadline, appending).await else {
            error!("storing messages hangs");
            return Err(GaveUp::StorageAway);
        };
        match appended {
            Ok(appended) => return Ok(Attempt::Stored(appended)),
            Err(AppendError::Fenced(lost)) => return Ok(Attempt::Lost(lost)),
            Err(AppendError::Store(error)) if error.is_rejection() => {
                warn!(error = %error, "a batch was refused, looking for the entry: {error}");
                return Ok(Attempt::Refused);
            }
            Err(AppendError::Store(error)) if Instant::now() + pause >= deadline => {
                error!(error = %error, "cannot store messages: {error}");
                return Err(GaveUp::StorageAway);
            }
            Err(AppendError::Store(error)) => {
                warn!(error = %error, retry_in_ms = pause.as_millis(), "cannot store messages, trying on: {error}");
                tokio::select! {
                    () = stop.cancelled() => return Err(GaveUp::Stopped),
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Splits a batch of several entries in two, to be stored one after the other.
fn halves(batches: &[PartitionBatch]) -> Option<(Vec<PartitionBatch>, Vec<PartitionBatch>)> {
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

/// The single entry of `batches` as a dead letter.
fn set_aside(batches: &[PartitionBatch]) -> Vec<PartitionBatch> {
    let mut batches = batches.to_vec();
    for batch in &mut batches {
        let entries = std::mem::take(&mut batch.entries);
        batch.entries = entries.into_iter().map(|entry| entry.into_dead_letter("the database refuses it")).collect();
    }
    batches
}

/// Cuts what was read into transactions of at most `max_rows` rows and about `max_bytes` bytes, in the order of each
/// partition: a partition's later part starts where its earlier one ends.
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

#[cfg(test)]
mod tests {
    use shared::domain::{Fence, Partition, StreamId};
    use shared::storage::Content;

    use super::*;

    fn batch(partition: u16, ids: std::ops::RangeInclusive<i64>) -> PartitionBatch {
        let entries = ids.clone().map(|counter| Entry {
            stream_id: StreamId { ms: 1, counter },
            content: Content::DeadLetter {
                reason: String::new(),
                entry: "12345".to_owned(),
            },
        });
        PartitionBatch {
            claim: Claim {
                partition: Partition(partition),
                fence: Fence(1),
                cursor: StreamId {
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
    fn a_part_begins_where_the_one_before_ends() {
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
    fn a_part_ends_when_it_is_large_enough() {
        let parts = split(vec![batch(1, 1..=4)], 100, 10);
        assert_eq!(shape(&parts), [vec![(1, 0, 2)], vec![(1, 2, 4)]]);
    }

    #[test]
    fn a_refused_batch_is_halved_until_one_entry_is_left() {
        let (first, second) = halves(&[batch(1, 1..=2), batch(2, 1..=3)]).unwrap();
        assert_eq!(shape(&[first, second]), [vec![(1, 0, 2)], vec![(2, 0, 3)]]);
        assert!(halves(&[batch(1, 5..=5)]).is_none());
    }
}
