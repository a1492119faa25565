//! Reads the accept log, ahead of what is being stored.
//!
//! Plain XREAD from positions that come from SQL: the server keeps no state about who read what, so there is nothing that
//! could disagree with the database after a crash.
//!
//! Partitions that one command may name are read by one task, with a connection of its own: on one node that is a single
//! group with all of them, in a cluster each partition is its own. A task reads one batch ahead, so that reading overlaps
//! committing, and no further, so that memory stays bounded. When what we hold changes, the groups concerned are read
//! anew from what is stored by then: what was read ahead is forgotten, and no batch can be stale.

mod carry_over;
mod entry;
mod id_repair;
mod origin;
mod partition_reader;
mod restore_check;

use std::future::poll_fn;
use std::task::Poll;

use shared::bus::RedisConnector;
use shared::domain::{Fence, Partition};
use shared::storage::{Claim, Installation, Store};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub use self::origin::{BatchOrigins, ReadBatch, Server};
use self::partition_reader::PartitionReader;

/// Batches that may be read ahead of the one that is being stored. A full channel stops the reader.
const READ_AHEAD: usize = 1;

/// Readers of all partitions that are held.
pub struct LogReader {
    redis: RedisConnector,
    store: Store,
    installation: Installation,
    groups: Vec<Group>,
}

/// Partitions that are read together.
struct Group {
    /// What it reads, and under which ownership.
    held: Vec<(Partition, Fence)>,
    batches: mpsc::Receiver<ReadBatch>,
    /// Its connections are its own, so it may be cut off in the middle of a read.
    _reader: AbortOnDropHandle<()>,
}

impl LogReader {
    /// A source that holds nothing yet. What it reads is compared with how far `store` has come.
    #[must_use]
    pub fn new(redis: RedisConnector, store: Store, installation: Installation) -> Self {
        Self {
            redis,
            store,
            installation,
            groups: Vec::new(),
        }
    }

    /// Reads `claims` from now on, each from its cursor, and nothing else. Groups that stay as they are go on.
    pub fn hold<'a>(&mut self, claims: impl Iterator<Item = &'a Claim>) {
        let claims: Vec<Claim> = claims.copied().collect();
        let share = if self.redis.has_one_node() {
            claims.len().max(1)
        } else {
            1
        };
        let mut former = std::mem::take(&mut self.groups);
        for together in claims.chunks(share) {
            let held: Vec<_> = together.iter().map(|claim| (claim.partition, claim.fence)).collect();
            let place = former.iter().position(|group| group.held == held);
            let group = place.map(|place| former.swap_remove(place));
            self.groups.push(group.unwrap_or_else(|| {
                let reader = PartitionReader::new(self.redis.clone(), self.store.clone(), together, self.installation);
                Group::start(reader, held)
            }));
        }
    }

    /// Waits for entries, and takes what every group has ready; waits for ever while nothing is held.
    ///
    /// `None` if a reader broke down: what is held must be held anew. Nothing is lost if the caller stops waiting.
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
    fn start(reader: PartitionReader, held: Vec<(Partition, Fence)>) -> Self {
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        Self {
            held,
            batches,
            _reader: AbortOnDropHandle::new(tokio::spawn(reader.run(sender))),
        }
    }
}
