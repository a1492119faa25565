//! Where entries were read from, to remove them there and nowhere else.
//!
//! After a failover another server holds the partition, and it may give out ids again that lie below those that were
//! read from the former one: to remove "all up to here" from it would remove what nobody has read. So what is stored is
//! removed through a connection to the very server it was read from, which breaks and is not repaired when that
//! server goes.

use redis::aio::MultiplexedConnection;
use shared::domain::Partition;
use shared::storage::PartitionBatch;

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

    /// The server that entries of `partition` were read from.
    #[must_use]
    pub fn server_of(&self, partition: Partition) -> Option<&MultiplexedConnection> {
        self.0.iter().find(|(partitions, _)| partitions.contains(&partition)).map(|(_, server)| server)
    }
}
