//! Reads the accept log, one batch ahead of what is being stored.
//!
//! It uses plain XREAD from positions that come from SQL: the server keeps no state about who read what, so nothing could
//! disagree with the database after a crash.
//!
//! One task, with a connection of its own, reads the partitions that one command may name: on one node that is a single group
//! with all of them, in a cluster each partition is a group. A task reads one batch ahead, so that reading overlaps committing,
//! and no further, so that memory stays bounded. When the owned partitions change, the groups concerned are read anew from what
//! is stored by then: what was read ahead is dropped, and no batch can be stale.

mod carry_over;
mod entry;
mod id_repair;
mod log_server;
mod outbox_poller;
mod partition_reader;
mod restore_check;

use std::future::poll_fn;
use std::task::Poll;

use shared::bus::RedisConnector;
use shared::domain::{Fence, Partition};
use shared::storage::{Claim, Installation, Store};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub use self::log_server::{BatchServers, LogServer, ReadBatch};
use self::outbox_poller::OutboxPoller;
use self::partition_reader::PartitionReader;

/// Batches that may be read ahead of the one that is being stored. A full channel stops the reading task.
const READ_AHEAD: usize = 1;

/// Reads all partitions that the worker owns.
pub struct LogReader {
    redis: RedisConnector,
    store: Store,
    installation: Installation,
    groups: Vec<Group>,
    /// Polls the outbox for the rooms of the partitions that are read.
    outbox_poller: Option<AbortOnDropHandle<()>>,
}

/// Partitions that are read together.
struct Group {
    /// What it reads, and under which claim.
    claimed: Vec<(Partition, Fence)>,
    batches: mpsc::Receiver<ReadBatch>,
    /// Its connections are its own, so it may be aborted in the middle of a read.
    _reader: AbortOnDropHandle<()>,
}

impl LogReader {
    /// A reader of no partition. It compares what Redis remembers with how far `store` has come.
    #[must_use]
    pub fn new(redis: RedisConnector, store: Store, installation: Installation) -> Self {
        Self {
            redis,
            store,
            installation,
            groups: Vec::new(),
            outbox_poller: None,
        }
    }

    /// Reads `claims` from now on, each from its cursor, and nothing else. Groups that do not change go on.
    pub fn assign(&mut self, claims: &[Claim]) {
        let share = if self.redis.has_one_node() {
            claims.len().max(1)
        } else {
            1
        };
        let mut former = std::mem::take(&mut self.groups);
        for together in claims.chunks(share) {
            let claimed: Vec<_> = together.iter().map(|claim| (claim.partition, claim.fence)).collect();
            let index = former.iter().position(|group| group.claimed == claimed);
            let group = index.map(|index| former.swap_remove(index));
            self.groups.push(group.unwrap_or_else(|| {
                let reader = PartitionReader::new(self.redis.clone(), self.store.clone(), together, self.installation);
                Group::start(reader, claimed)
            }));
        }
        let poller = OutboxPoller {
            store: self.store.clone(),
            redis: self.redis.client(),
            installation: self.installation,
            partitions: claims.iter().map(|claim| claim.partition).collect(),
        };
        self.outbox_poller = (!claims.is_empty()).then(|| AbortOnDropHandle::new(tokio::spawn(poller.run())));
    }

    /// Waits for entries, and returns what every group has ready. It waits for ever while nothing is assigned.
    ///
    /// `None` if a task panicked: the partitions must be assigned anew. Nothing is lost if the caller stops waiting.
    pub async fn next(&mut self) -> Option<Vec<ReadBatch>> {
        poll_fn(|context| {
            let mut ready = Vec::new();
            for group in &mut self.groups {
                match group.batches.poll_recv(context) {
                    Poll::Ready(Some(read)) => ready.push(read),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
            }
            if ready.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(Some(ready))
            }
        })
        .await
    }
}

impl Group {
    fn start(reader: PartitionReader, claimed: Vec<(Partition, Fence)>) -> Self {
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        Self {
            claimed,
            batches,
            _reader: AbortOnDropHandle::new(tokio::spawn(reader.run(sender))),
        }
    }
}
