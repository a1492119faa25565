//! Where entries were read from, to remove them there and nowhere else.
//!
//! After a failover another server holds the partition, and it may give out ids again that lie below those that were
//! read from the former one: to remove "all up to here" from it would remove what nobody has read. So what is stored is
//! removed through a connection to the very server it was read from, which breaks and is not repaired when that
//! server goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use shared::bus::{KeySpace, StoredWatermark};
use shared::domain::{Partition, StreamId};
use shared::storage::PartitionBatch;

/// Removes what lies before `ARGV[1]` from the stream `KEYS[1]`, and writes `ARGV[2]` to `KEYS[2]`. allow-oom: a Redis whose
/// memory is full gets room by it.
static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
         redis.call('SET', KEYS[2], ARGV[2])
         return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])",
    )
});

/// A server that entries were read from.
#[derive(Clone)]
pub struct Server {
    connection: MultiplexedConnection,
    keys: Arc<KeySpace>,
    /// The number of the epoch in which it is read.
    epoch_number: i64,
    /// What its clock said when it was found, in milliseconds, and when that was.
    clock: (i64, Instant),
    is_lost: Arc<AtomicBool>,
}

impl Server {
    /// The server at the other end of `connection`, whose clock says `now_ms`.
    pub(super) fn new(connection: MultiplexedConnection, keys: Arc<KeySpace>, epoch_number: i64, now_ms: i64) -> Self {
        Self {
            connection,
            keys,
            epoch_number,
            clock: (now_ms, Instant::now()),
            is_lost: Arc::default(),
        }
    }

    /// Removes the entries of `partition` up to `upto`, which are stored, and has Redis remember that they were.
    pub async fn remove(&self, partition: Partition, upto: StreamId) -> RedisResult<()> {
        let stored = StoredWatermark {
            epoch_number: self.epoch_number,
            upto,
        };
        let removed: RedisResult<i64> = REMOVE
            .key(self.keys.accept_stream(partition))
            .key(self.keys.stored_watermark(partition))
            .arg(upto.next().to_string())
            .arg(stored.encode(partition, &self.keys))
            .invoke_async(&mut self.connection.clone())
            .await;
        if removed.as_ref().is_err_and(|error| error.is_io_error() || error.is_unrecoverable_error()) {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        removed.map(drop)
    }

    /// What its clock says, in milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        let (then_ms, then) = self.clock;
        then_ms.saturating_add(i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// Whether nothing can be removed there any more. The connection may have ended alone, such as one that was silent for
    /// longer than the server allows: then reading goes on, and the log would grow.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

/// What was read at once from one server.
pub struct ReadBatch {
    /// The entries, each partition once.
    pub batches: Vec<PartitionBatch>,
    pub(super) server: Server,
}

/// The servers that entries were read from.
#[derive(Clone)]
pub struct BatchOrigins(Vec<(Vec<Partition>, Server)>);

impl BatchOrigins {
    /// Takes `reads` apart: where the entries come from, and the entries.
    #[must_use]
    pub fn of(reads: Vec<ReadBatch>) -> (Self, Vec<PartitionBatch>) {
        let (mut origins, mut all) = (Vec::new(), Vec::new());
        for ReadBatch { batches, server } in reads {
            origins.push((batches.iter().map(|batch| batch.claim.partition).collect(), server));
            all.extend(batches);
        }
        (Self(origins), all)
    }

    /// The server that entries of `partition` were read from.
    #[must_use]
    pub fn server_of(&self, partition: Partition) -> Option<&Server> {
        self.0.iter().find(|(partitions, _)| partitions.contains(&partition)).map(|(_, server)| server)
    }
}
