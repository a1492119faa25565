//! Backlog watch: refuses posts while too many accepted messages wait for a worker.
//!
//! There are two bounds: the entries of one partition, and the memory of Redis. The second one keeps a reserve, because a
//! Redis that is full to the last byte stores no limits and no leases of streams either.

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

/// How often Redis is polled. Until the next poll posts may overshoot the bounds.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// How long a write may take until the server counts as one that refuses them. Where another server may take over, the client
/// tries for longer.
const WRITE_TIME: Duration = Duration::from_millis(500);

/// Percent of a Redis server's `maxmemory` above which nothing is accepted. The rest is for limits, leases of streams,
/// and what gateways accept until the next poll.
const FULL_PERCENT: u64 = 90;

/// What is known of the accept log. Clones share it.
#[derive(Clone)]
pub(super) struct Backlog {
    partitions: Arc<[AtomicBool]>,
    memory: Arc<AtomicBool>,
    /// Partitions whose stream could not be read at the last poll.
    unreachable: Arc<[AtomicBool]>,
    /// Partitions whose server answered, and would not have written.
    read_only: Arc<[AtomicBool]>,
}

/// What is known of the accept log, less than a second old while Redis answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each of them can be so beside the others")]
pub struct AcceptLog {
    /// Redis has used up its memory: no partition accepts posts.
    pub memory_is_full: bool,
    /// A partition accepts no posts until its worker has caught up.
    pub backlog_is_full: bool,
    /// A partition's stream could not be read.
    pub is_unreachable: bool,
    /// A partition's server answers, and writes nothing: it has too few replicas, its disk fails, or it is a replica itself.
    pub is_read_only: bool,
}

impl Backlog {
    /// A watch that knows of nothing that waits in any of `partitions`.
    pub(super) fn new(partitions: u16) -> Self {
        let none = || (0..partitions).map(|_| AtomicBool::new(false)).collect();
        Self {
            partitions: none(),
            memory: Arc::default(),
            unreachable: none(),
            read_only: none(),
        }
    }

    /// What is known.
    pub(super) fn known(&self) -> AcceptLog {
        let any = |flags: &[AtomicBool]| flags.iter().any(|flag| flag.load(Ordering::Relaxed));
        AcceptLog {
            memory_is_full: self.memory.load(Ordering::Relaxed),
            backlog_is_full: any(&self.partitions),
            is_unreachable: any(&self.unreachable),
            is_read_only: self.read_only.iter().zip(self.unreachable.iter()).any(|(is_read_only, is_unreachable)| {
                is_read_only.load(Ordering::Relaxed) && !is_unreachable.load(Ordering::Relaxed)
            }),
        }
    }

    /// Whether `partition` accepts no posts now.
    pub(super) fn is_full(&self, partition: Partition) -> bool {
        self.memory.load(Ordering::Relaxed) || self.partitions[usize::from(partition.0)].load(Ordering::Relaxed)
    }

    /// Polls Redis until `stop` is cancelled: a stream of `bound` entries or more accepts no posts until it is shorter.
    ///
    /// What a server does not answer stays as it was: while it is unreachable nothing is accepted there anyway.
    pub(super) async fn watch(self, redis: RedisClient, bound: u32, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::join!(self.poll_lengths(&redis, bound), self.poll_memory(&redis));
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(POLL_EVERY) => {}
            }
        }
    }

    /// One command for each partition: those of a server that is unreachable say nothing about the others.
    async fn poll_lengths(&self, redis: &RedisClient, bound: u32) {
        let partitions = self.partitions.iter().zip(self.unreachable.iter()).zip(self.read_only.iter()).zip(0..);
        let polls = partitions.map(|(((is_full, is_unreachable), is_read_only), number)| async move {
            let partition = Partition(number);
            let (keys, mut redis) = (redis.key_space(), redis.clone());
            let length: RedisResult<u64> = redis.xlen(keys.accept_stream(partition)).await;
            is_unreachable.store(length.is_err(), Ordering::Relaxed);
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
        join_all(polls).await;
    }

    async fn poll_memory(&self, redis: &RedisClient) {
        let servers = redis.run_on_each(cmd("INFO").arg("memory")).await;
        let answers: Vec<InfoDict> =
            servers.into_iter().flatten().filter_map(|answer| InfoDict::from_redis_value(answer).ok()).collect();
        if answers.is_empty() {
            return;
        }
        let is_full = answers.iter().any(|memory| is_full(memory.get("used_memory"), memory.get("maxmemory")));
        if self.memory.swap(is_full, Ordering::Relaxed) != is_full {
            warn!("Redis has used up {FULL_PERCENT} % of its memory: {is_full}");
        }
    }
}

/// Whether too many bytes of `most` are used; 0 stands for no bound.
fn is_full(used: Option<u64>, most: Option<u64>) -> bool {
    match (used, most) {
        (Some(used), Some(most)) if most > 0 => used >= most / 100 * FULL_PERCENT,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_as_full_before_it_is_used_up() {
        assert!(is_full(Some(900), Some(1_000)));
        assert!(!is_full(Some(899), Some(1_000)));
        assert!(!is_full(Some(900), Some(0)));
        assert!(!is_full(None, Some(1_000)));
    }
}
