//! When posts are refused, because too much of what was accepted waits for a worker.
//!
//! Two bounds: the entries of one partition, and the memory of Redis. The second one keeps a reserve: a Redis that is
//! full to the last byte takes no lease and no heartbeat either, so that no worker could come and empty it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{FromRedisValue as _, InfoDict, RedisResult, cmd};
use shared::bus::{Link, accept_stream};
use shared::domain::Partition;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often Redis is looked at. Until the next time posts may overshoot the bounds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Percent of a Redis server's `maxmemory` above which nothing is accepted. The rest is for leases, limits, places of streams,
/// and what gateways accept until they look again.
const FULL_PERCENT: u64 = 90;

/// What is known of the accept log. Clones share it.
#[derive(Clone)]
pub(super) struct Backlog {
    partitions: Arc<[AtomicBool]>,
    memory: Arc<AtomicBool>,
}

impl Backlog {
    /// Nothing waits in any of `partitions`, as far as is known.
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            partitions: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
            memory: Arc::default(),
        }
    }

    /// True if `partition` takes no posts now.
    pub(super) fn is_full(&self, partition: Partition) -> bool {
        self.memory.load(Ordering::Relaxed) || self.partitions[usize::from(partition.0)].load(Ordering::Relaxed)
    }

    /// Keeps watch until `stop` is cancelled: a stream of `bound` entries or more takes no posts until it is shorter.
    pub(super) async fn watch(self, mut connection: Link, bound: u32, stop: CancellationToken) {
        let mut lengths = redis::pipe();
        for partition in (0..).zip(self.partitions.iter()).map(|(number, _)| Partition(number)) {
            lengths.xlen(accept_stream(partition));
        }
        while !stop.is_cancelled() {
            let answer: RedisResult<Vec<u64>> = lengths.query_async(&mut connection).await;
            // What Redis does not tell stays as it was; while it is away nothing is accepted anyway.
            for (place, length) in answer.unwrap_or_default().into_iter().enumerate() {
                let is_full = length >= u64::from(bound);
                if self.partitions[place].swap(is_full, Ordering::Relaxed) != is_full {
                    warn!(partition = place, backlog = length, "accept log of partition {place} full: {is_full}");
                }
            }
            let servers = connection.run_on_each(cmd("INFO").arg("memory")).await;
            let told: Vec<InfoDict> =
                servers.into_iter().flatten().filter_map(|answer| InfoDict::from_redis_value(answer).ok()).collect();
            if !told.is_empty() {
                let is_full = told.iter().any(|memory| is_short(memory.get("used_memory"), memory.get("maxmemory")));
                if self.memory.swap(is_full, Ordering::Relaxed) != is_full {
                    warn!("Redis has used up {FULL_PERCENT} % of its memory: {is_full}");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// True if too many bytes of `most` are used; 0 stands for no bound.
fn is_short(used: Option<u64>, most: Option<u64>) -> bool {
    match (used, most) {
        (Some(used), Some(most)) if most > 0 => used >= most / 100 * FULL_PERCENT,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_before_it_is_used_up_and_never_without_a_bound() {
        assert!(is_short(Some(900), Some(1_000)));
        assert!(!is_short(Some(899), Some(1_000)));
        assert!(!is_short(Some(900), Some(0)));
        assert!(!is_short(None, Some(1_000)));
    }
}
