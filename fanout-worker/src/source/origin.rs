//! Where entries were read from, to remove them there and nowhere else.
//!
//! After a failover another server holds the partition, and it may give out ids again that lie below those that were
//! read from the former one: to remove "all up to here" from it would remove what nobody has read. So what is stored is
//! removed through a connection to the very server it was read from, which breaks and is not repaired when that
//! server goes.

use futures_util::future::join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamTrimOptions, StreamTrimmingMode};
use shared::bus::accept_stream;
use shared::domain::{Partition, StreamId};
use shared::storage::PartitionBatch;
use tracing::warn;

/// What was read at once from one server.
pub struct Read {
    /// The entries, each partition once.
    pub batches: Vec<PartitionBatch>,
    pub(super) server: MultiplexedConnection,
}

/// The servers that entries were read from.
#[derive(Clone)]
pub struct Origins(Vec<(Vec<Partition>, MultiplexedConnection)>);

impl Origins {
    /// Takes `reads` apart: where the entries come from, and the entries.
    #[must_use]
    pub fn of(reads: Vec<Read>) -> (Self, Vec<PartitionBatch>) {
        let (mut origins, mut all) = (Vec::new(), Vec::new());
        for Read { batches, server } in reads {
            origins.push((batches.iter().map(|batch| batch.claim.partition).collect(), server));
            all.extend(batches);
        }
        (Self(origins), all)
    }

    /// Removes what lies up to `positions` from the accept log, on all servers side by side. What a failure leaves there is
    /// found by the next reader that connects, and removed then.
    pub async fn trim(&self, positions: &[(Partition, StreamId)]) {
        let trims = self.0.iter().map(|(partitions, server)| {
            let here = positions.iter().filter(|(partition, _)| partitions.contains(partition));
            trim(server.clone(), here)
        });
        for trimmed in join_all(trims).await {
            if let Err(error) = trimmed {
                warn!(error = %error, "stored entries were not removed from the accept log: {error}");
            }
        }
    }
}

async fn trim(
    mut server: MultiplexedConnection,
    positions: impl Iterator<Item = &(Partition, StreamId)>,
) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for (partition, upto) in positions {
        let keep_from = upto.next().to_string();
        let options = StreamTrimOptions::minid(StreamTrimmingMode::Exact, keep_from);
        pipeline.xtrim_options(accept_stream(*partition), &options).ignore();
    }
    if pipeline.is_empty() {
        return Ok(());
    }
    pipeline.query_async(&mut server).await
}
