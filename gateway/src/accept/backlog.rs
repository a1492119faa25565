//! Which partitions take no posts, because too much of what they took waits for a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::RedisResult;
use redis::aio::ConnectionManager;
use shared::bus::accept_stream;
use shared::domain::Partition;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often the lengths of the accept streams are read. Until the next time posts may overshoot the bound.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is known of the accept streams. Clones share it.
#[derive(Clone)]
pub(super) struct Backlog {
    full: Arc<[AtomicBool]>,
}

impl Backlog {
    /// Nothing waits in any of `partitions`, as far as is known.
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            full: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// True if `partition` takes no posts now.
    pub(super) fn is_full(&self, partition: Partition) -> bool {
        self.full[usize::from(partition.0)].load(Ordering::Relaxed)
    }

    /// Keeps watch until `stop` is cancelled: a stream of `bound` entries or more takes no posts until it is shorter.
    pub(super) async fn watch(self, mut connection: ConnectionManager, bound: u32, stop: CancellationToken) {
        let mut lengths = redis::pipe();
        for partition in (0..).zip(self.full.iter()).map(|(number, _)| Partition(number)) {
            lengths.xlen(accept_stream(partition));
        }
        while !stop.is_cancelled() {
            let answer: RedisResult<Vec<u64>> = lengths.query_async(&mut connection).await;
            // While Redis is away nothing is accepted anyway.
            for (place, length) in answer.unwrap_or_default().into_iter().enumerate() {
                let is_full = length >= u64::from(bound);
                if self.full[place].swap(is_full, Ordering::Relaxed) != is_full {
                    warn!(partition = place, backlog = length, "accept log of partition {place} full: {is_full}");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}
