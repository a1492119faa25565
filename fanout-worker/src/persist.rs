//! Stores batches in SQL: it retries transient failures for a while, sets aside entries that can never be stored, and leaves
//! partitions to another worker that has claimed them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::domain::{LogEntryId, Partition, Timestamp};
use shared::storage::{CommitError, Committed, Entry, EntryContent, PartitionBatch, Store};
use shared::telemetry::LogEvent;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::batch::halves;
use crate::crash_point;
use crate::dead_letter_encoding as encoding;

/// Rows of one transaction at most.
pub const MAX_ROWS: usize = 500;

/// Bytes of text in one transaction at most, the last row aside.
pub const MAX_BYTES: usize = 1024 * 1024;

/// How long storing may fail or hang until this worker leaves its partitions to others, who may reach the database.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// Pause after a transient failure: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A transient failure of the database.
static STORAGE_FAILS: LogEvent = LogEvent::outage("storing_fails", "cannot store messages, retrying").warning();

/// A lasting failure of the database: this worker stores nothing.
static STORAGE_UNAVAILABLE: LogEvent = LogEvent::outage("nothing_is_stored", "nothing is stored");

/// Why something was not stored, or is not known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Storage failed or hung for [`GIVE_UP_AFTER`]. A commit that hung may still come to its end.
    StorageUnavailable,
    /// The stop signal came while storage was failing.
    Stopped,
}

/// What became of a batch.
#[derive(Default)]
pub struct Persisted {
    /// What each transaction stored.
    pub stored: Vec<Committed>,
    /// How far each partition came of which something was stored.
    pub progress: BTreeMap<Partition, PartitionProgress>,
    /// Partitions of the batch whose claims no longer hold. `stored` has nothing of them, unless it was stored before they
    /// were lost.
    pub lost: Vec<Partition>,
    /// Why the rest is not stored, if there is a rest.
    pub stopped_by: Option<StopReason>,
}

/// How far a partition is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Where its cursor stands.
    pub cursor: LogEntryId,
    /// The last entry that was stored: below the cursor if Redis came back older.
    pub last: LogEntryId,
}

/// Stores `batches` in one transaction, or in several if some of it cannot be stored.
///
/// It gives up when storage fails for too long, or when `stop` is cancelled while it fails. What was stored until then must be
/// published.
pub async fn persist(store: &Store, batches: Vec<PartitionBatch>, stop: &CancellationToken) -> Persisted {
    let mut persisted = Persisted::default();
    // The batches that are left, the next one last: a refused batch comes back as its two halves.
    let mut waiting = vec![batches];
    while let Some(mut batches) = waiting.pop() {
        batches.retain(|batch| !persisted.lost.contains(&batch.claim.partition));
        if batches.is_empty() {
            continue;
        }
        let batches: Arc<[PartitionBatch]> = batches.into();
        let outcome = match commit(store, &batches, stop).await {
            Ok(Attempt::Stored(committed)) => {
                persisted.record(&batches, committed);
                Ok(())
            }
            Ok(Attempt::Lost(partitions)) => {
                info!(?partitions, "claims no longer hold: of other workers now, or a commit's reply was lost");
                persisted.lost.extend(partitions);
                waiting.push(batches.to_vec());
                Ok(())
            }
            Ok(Attempt::Refused) if stop.is_cancelled() => Err(StopReason::Stopped),
            Ok(Attempt::Refused) => match halves(&batches) {
                Some((first, second)) => {
                    waiting.extend([second, first]);
                    Ok(())
                }
                None => set_aside(&batches).map(|batches| waiting.push(batches)),
            },
            Err(stopped_by) => Err(stopped_by),
        };
        if let Err(stopped_by) = outcome {
            persisted.stopped_by = Some(stopped_by);
            break;
        }
    }
    persisted
}

impl Persisted {
    /// Records that all of `batches` is stored.
    fn record(&mut self, batches: &[PartitionBatch], committed: Committed) {
        let progress = |batch: &PartitionBatch| PartitionProgress {
            cursor: batch.upto(),
            last: batch.entries.last().map_or(batch.claim.cursor, |entry| entry.log_entry_id),
        };
        self.progress.extend(batches.iter().map(|batch| (batch.claim.partition, progress(batch))));
        self.stored.push(committed);
    }
}

/// How the attempt to store a batch ended.
enum Attempt {
    /// All of it is stored.
    Stored(Committed),
    /// Nothing is stored, since the claims of these partitions no longer hold.
    Lost(Vec<Partition>),
    /// Nothing is stored, since the database refuses some of the data.
    Refused,
}

/// Tries to store `batches` until the outcome is known.
async fn commit(
    store: &Store,
    batches: &Arc<[PartitionBatch]>,
    stop: &CancellationToken,
) -> Result<Attempt, StopReason> {
    let mut pause = PAUSE.0;
    let deadline = Instant::now() + GIVE_UP_AFTER;
    loop {
        let written = crash_point::reached("before_commit");
        let committing = store.commit(Arc::clone(batches), Timestamp::now(), written);
        // The store ends the transaction even if no caller waits for it. The next attempt on these partitions, by any
        // worker, then finds their cursors moved.
        let Ok(committed) = timeout_at(deadline, committing).await else {
            STORAGE_UNAVAILABLE.report("", "storing messages hangs");
            return Err(StopReason::StorageUnavailable);
        };
        match committed {
            Ok(committed) => return Ok(Attempt::Stored(committed)),
            Err(CommitError::StaleClaims(lost)) => return Ok(Attempt::Lost(lost)),
            Err(CommitError::Store(error)) if error.is_rejection() => {
                warn!(error = %error, "a batch was refused, looking for the entry: {error}");
                return Ok(Attempt::Refused);
            }
            Err(CommitError::Store(error)) if Instant::now() + pause >= deadline => {
                STORAGE_UNAVAILABLE.report("", &error);
                return Err(StopReason::StorageUnavailable);
            }
            Err(CommitError::Store(error)) => {
                STORAGE_FAILS.report("", &error);
                tokio::select! {
                    () = stop.cancelled() => return Err(StopReason::Stopped),
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// The single entry of `batches` in a form that is easier to store: a message becomes a dead letter, and a dead letter, which the
/// database refuses if it is too large, becomes its size and its hash. A database that refuses even that counts as away.
fn set_aside(batches: &[PartitionBatch]) -> Result<Vec<PartitionBatch>, StopReason> {
    let aside = |entry: &Entry| match &entry.content {
        EntryContent::Message(_) | EntryContent::Change(_) | EntryContent::Outbox(_) => {
            Ok(entry.clone().into_dead_letter("the database refuses it"))
        }
        EntryContent::DeadLetter { reason, entry: stored } if !encoding::is_abridged(stored) => Ok(Entry {
            log_entry_id: entry.log_entry_id,
            content: EntryContent::DeadLetter {
                reason: reason.clone(),
                entry: encoding::abridge([stored]),
            },
        }),
        EntryContent::DeadLetter { .. } => {
            error!(stream_id = %entry.log_entry_id, "the database takes no dead letter, however small");
            Err(StopReason::StorageUnavailable)
        }
    };
    let batch = |batch: &PartitionBatch| {
        let entries = batch.entries.iter().map(aside).collect::<Result<_, _>>()?;
        Ok(PartitionBatch {
            claim: batch.claim,
            entries,
        })
    };
    batches.iter().map(batch).collect()
}
