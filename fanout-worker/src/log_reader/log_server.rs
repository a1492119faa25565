//! The servers that entries were read from, so that stored entries are removed there and nowhere else.
//!
//! After a failover another server serves the partition, and it may give out ids again that lie below those that were read from
//! the former one: removing "all up to here" from it would remove entries that were never read. So stored entries are removed
//! through a connection to the very server they were read from; that connection breaks with the server and does not reconnect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use shared::bus::{KeySpace, StoredWatermark};
use shared::domain::{LogEntryId, Partition};
use shared::storage::PartitionBatch;

/// Removes the entries before `ARGV[1]` from the stream `KEYS[1]`, and writes `ARGV[2]` to `KEYS[2]`. allow-oom: a Redis whose
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
pub struct LogServer {
    connection: MultiplexedConnection,
    keys: Arc<KeySpace>,
    /// The number of the epoch in which entries are read.
    epoch_number: i64,
    /// The server's clock when the reader connected, in milliseconds, and when that was.
    clock: (i64, Instant),
    is_lost: Arc<AtomicBool>,
}

impl LogServer {
    /// The server of `connection`, whose clock says `now_ms`.
    pub(super) fn new(connection: MultiplexedConnection, keys: Arc<KeySpace>, epoch_number: i64, now_ms: i64) -> Self {
        Self {
            connection,
            keys,
            epoch_number,
            clock: (now_ms, Instant::now()),
            is_lost: Arc::default(),
        }
    }

    /// Removes the entries of `partition` up to `upto`, which are stored, and has Redis remember the watermark.
    pub async fn remove(&self, partition: Partition, upto: LogEntryId) -> RedisResult<()> {
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

    /// The server's clock, in milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        let (then_ms, then) = self.clock;
        then_ms.saturating_add(i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// Whether the connection for removals is lost. It may have ended alone, such as one that was silent for
    /// longer than the server allows: reading would go on then, and the log would grow.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

/// What one command read from one server.
pub struct ReadBatch {
    /// The entries; each partition appears once.
    pub batches: Vec<PartitionBatch>,
    pub(super) server: LogServer,
}

/// The servers that entries were read from.
#[derive(Clone, Default)]
pub struct BatchServers(Vec<(Vec<Partition>, LogServer)>);

impl BatchServers {
    /// Splits `reads` into the servers and the entries read from them.
    #[must_use]
    pub fn of(reads: Vec<ReadBatch>) -> (Self, Vec<PartitionBatch>) {
        let (mut servers, mut all) = (Vec::new(), Vec::new());
        for ReadBatch { batches, server } in reads {
            servers.push((batches.iter().map(|batch| batch.claim.partition).collect(), server));
            all.extend(batches);
        }
        (Self(servers), all)
    }

    /// The server that entries of `partition` were read from.
    #[must_use]
    pub fn server_of(&self, partition: Partition) -> Option<&LogServer> {
        self.0.iter().find(|(partitions, _)| partitions.contains(&partition)).map(|(_, server)| server)
    }
}
