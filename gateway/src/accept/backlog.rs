//! When posts are refused, because too much of what was accepted waits for a worker.
//!
//! Two bounds: the entries of one partition, and the memory of Redis. The second one keeps a reserve: a Redis that is
//! full to the last byte takes no limits and no places of streams either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use redis::{AsyncCommands as _, FromRedisValue as _, InfoDict, RedisResult, cmd};
use shared::bus::RedisClient;
use shared::domain::Partition;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often Redis is looked at. Until the next time posts may overshoot the bounds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a write may take until the server counts as one that takes none. Where another one may take over, the connection
/// tries for longer.
const WRITE_TIME: Duration = Duration::from_millis(500);

/// Percent of a Redis server's `maxmemory` above which nothing is accepted. The rest is for limits, places of streams,
/// and what gateways accept until they look again.
const FULL_PERCENT: u64 = 90;

/// What is known of the accept log. Clones share it.
#[derive(Clone)]
pub(super) struct Backlog {
    partitions: Arc<[AtomicBool]>,
    memory: Arc<AtomicBool>,
    /// Partitions whose stream could not be asked for the last time.
    away: Arc<[AtomicBool]>,
    /// Partitions whose server answered, and would not have written.
    read_only: Arc<[AtomicBool]>,
}

/// What is known of the accept log, less than a second old while Redis answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each of them can be so beside the others")]
pub struct AcceptLog {
    /// Redis has used up its memory: no partition takes posts.
    pub memory_is_full: bool,
    /// A partition takes no posts until its worker has caught up.
    pub backlog_is_full: bool,
    /// A partition's stream could not be asked.
    pub is_away: bool,
    /// A partition's server answers, and writes nothing: it has too few replicas, its disk fails, or it is a replica itself.
    pub is_read_only: bool,
}

impl Backlog {
    /// Nothing waits in any of `partitions`, as far as is known.
    pub(super) fn new(partitions: u16) -> Self {
        let none = || (0..partitions).map(|_| AtomicBool::new(false)).collect();
        Self {
            partitions: none(),
            memory: Arc::default(),
            away: none(),
            read_only: none(),
        }
    }

    /// What is known.
    pub(super) fn known(&self) -> AcceptLog {
        let any = |flags: &[AtomicBool]| flags.iter().any(|flag| flag.load(Ordering::Relaxed));
        AcceptLog {
            memory_is_full: self.memory.load(Ordering::Relaxed),
            backlog_is_full: any(&self.partitions),
            is_away: any(&self.away),
            is_read_only: self.read_only.iter().zip(self.away.iter()).any(|(is_read_only, is_away)| {
                is_read_only.load(Ordering::Relaxed) && !is_away.load(Ordering::Relaxed)
            }),
        }
    }

    /// True if `partition` takes no posts now.
    pub(super) fn is_full(&self, partition: Partition) -> bool {
        self.memory.load(Ordering::Relaxed) || self.partitions[usize::from(partition.0)].load(Ordering::Relaxed)
    }

    /// Keeps watch until `stop` is cancelled: a stream of `bound` entries or more takes no posts until it is shorter.
    ///
    /// What Redis does not tell stays as it was: while a server is away nothing is accepted there anyway.
    pub(super) async fn watch(self, redis: RedisClient, bound: u32, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::join!(self.look_at_lengths(&redis, bound), self.look_at_memory(&redis));
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// One command for each partition: those of a server that is away say nothing about the others.
    async fn look_at_lengths(&self, redis: &RedisClient, bound: u32) {
        let partitions = self.partitions.iter().zip(self.away.iter()).zip(self.read_only.iter()).zip(0..);
        let looks = partitions.map(|(((is_full, is_away), is_read_only), number)| async move {
            let partition = Partition(number);
            let (keys, mut redis) = (redis.key_space(), redis.clone());
            let length: RedisResult<u64> = redis.xlen(keys.accept_stream(partition)).await;
            is_away.store(length.is_err(), Ordering::Relaxed);
            let Ok(length) = length else { return };
            // A write that changes nothing: there is no such key.
            let written = timeout(WRITE_TIME, redis.del::<_, u64>(keys.write_probe(partition))).await;
            let refused = !matches!(written, Ok(Ok(_)));
            if is_read_only.swap(refused, Ordering::Relaxed) != refused {
                warn!(partition = number, "the Redis server of partition {number} refuses to write: {refused}");
            }
            let full = length >= u64::from(bound);
            if is_full.swap(full, Ordering::Relaxed) != full {
                warn!(partition = number, backlog = length, "accept log of partition {number} full: {full}");
            }
        });
        join_all(looks).await;
    }

    async fn look_at_memory(&self, redis: &RedisClient) {
        let servers = redis.run_on_each(cmd("INFO").arg("memory")).await;
        let told: Vec<InfoDict> =
            servers.into_iter().flatten().filter_map(|answer| InfoDict::from_redis_value(answer).ok()).collect();
        if told.is_empty() {
            return;
        }
        let is_full = told.iter().any(|memory| is_short(memory.get("used_memory"), memory.get("maxmemory")));
        if self.memory.swap(is_full, Ordering::Relaxed) != is_full {
            warn!("Redis has used up {FULL_PERCENT} % of its memory: {is_full}");
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
