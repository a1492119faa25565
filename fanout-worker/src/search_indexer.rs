//! Indexes messages for searches, after their commit.
//!
//! No commit waits for it, and a search finds messages without it, only more slowly. So it can be late and may fail, and what a
//! worker leaves undone when it ends is found by the next look.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::domain::{Partition, RoomId};
use shared::storage::{Installation, Store, StoreError};
use shared::telemetry::FailureSeries;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often it looks for rooms with new messages, if that takes no noticeable time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The pause is at least so many times as long as the look: that takes longer the more rooms there are.
const PAUSE_FACTOR: u32 = 20;

/// Rooms that are listed at once.
const ROOMS: u32 = 100;

/// Entries stored in a second from which on commits have the processor: indexing waits, and goes on with [`BUSY_SHARE`].
const BUSY_RATE: f64 = 2_000.0;

/// The part of the time that indexing takes at most while the worker is busy: one in so many. What is not indexed is searched as it
/// is, more slowly, and indexed when the flood is over.
const BUSY_SHARE: u32 = 20;

/// Rooms that may fail one after the other until the rest waits for the next look: the database does not answer.
const FAILURES: u32 = 5;

/// Indexes messages of the rooms whose partitions a worker owns.
pub struct SearchIndexer {
    /// Where they are stored.
    pub store: Store,
    /// Says which partition a room is in.
    pub installation: Installation,
    /// The partitions that the worker owns.
    pub owned: watch::Receiver<BTreeSet<Partition>>,
    /// How many entries the worker has stored.
    pub stored: Arc<AtomicU64>,
}

/// How fast the worker stores, measured from one step to the next.
struct Busyness {
    stored: u64,
    since: Instant,
    is_busy: bool,
}

impl Busyness {
    /// Whether the worker has stored [`BUSY_RATE`] entries a second or more lately.
    fn now(&mut self, stored: u64) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed >= INTERVAL {
            let count = u32::try_from(stored - self.stored).unwrap_or(u32::MAX);
            self.is_busy = f64::from(count) >= BUSY_RATE * elapsed.as_secs_f64();
            (self.stored, self.since) = (stored, Instant::now());
        }
        self.is_busy
    }
}

impl SearchIndexer {
    /// Indexes what is stored until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = FailureSeries::default();
        let mut busyness = Busyness {
            stored: 0,
            since: Instant::now(),
            is_busy: false,
        };
        while !stop.is_cancelled() {
            let pause = match self.index_all_once(&mut busyness, &stop).await {
                Ok(pause) => {
                    failures.recovered();
                    pause
                }
                Err(error) => {
                    if failures.failed() {
                        warn!(error = %error, "cannot index messages for searches, retrying: {error}");
                    }
                    INTERVAL
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Takes one step in every room that has messages to be indexed, so that a room with many keeps none waiting, nor one that fails.
    /// Returns the pause before the next look.
    async fn index_all_once(
        &mut self,
        busyness: &mut Busyness,
        stop: &CancellationToken,
    ) -> Result<Duration, StoreError> {
        let owned = self.owned.borrow_and_update().clone();
        if owned.is_empty() {
            return Ok(INTERVAL);
        }
        let (mut after, mut looking, mut is_behind) = (RoomId(0), Duration::ZERO, false);
        let (mut failed, mut in_a_row) = (None, 0);
        loop {
            let began = Instant::now();
            let mut rooms = self.store.rooms_to_index(after, ROOMS).await?;
            looking += began.elapsed();
            let is_last = rooms.len() < ROOMS as usize;
            after = rooms.last().copied().unwrap_or(after);
            rooms.retain(|room| owned.contains(&self.installation.partition_of(*room)));
            for room in rooms {
                if stop.is_cancelled() {
                    return Ok(INTERVAL);
                }
                let began = Instant::now();
                let indexed = self.store.index_room(room).await;
                if busyness.now(self.stored.load(Ordering::Relaxed)) {
                    // The process waits for this task when it stops.
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = sleep(began.elapsed() * (BUSY_SHARE - 1)) => {}
                    }
                }
                match indexed {
                    Ok(has_more) => (is_behind, in_a_row) = (is_behind | has_more, 0),
                    Err(error) if in_a_row + 1 >= FAILURES => return Err(error),
                    Err(error) => (failed, in_a_row) = (Some(error), in_a_row + 1),
                }
            }
            if is_last {
                break;
            }
        }
        match failed {
            Some(error) => Err(error),
            None if is_behind => Ok(Duration::ZERO),
            None => Ok(INTERVAL.max(looking * PAUSE_FACTOR)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_is_busy_by_what_it_stored_lately() {
        let long_ago = || Instant::now().checked_sub(INTERVAL * 2).unwrap();
        let mut busyness = Busyness {
            stored: 0,
            since: long_ago(),
            is_busy: false,
        };
        assert!(busyness.now(10_000));
        assert!(busyness.now(10_001), "it is looked at once in an interval");
        busyness.since = long_ago();
        assert!(!busyness.now(10_100));
    }
}
