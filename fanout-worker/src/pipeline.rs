//! The worker's loop: follow who should have what; read → commit → publish → trim, in this order for every entry.
//!
//! The steps of successive batches overlap: while one commits, the next is read, and the one before is published.
//! There is no timer that waits for a batch to fill: what comes during a commit is the next batch. So a lonely message
//! does not wait, and a flood forms large batches by itself.
//!
//! What is held changes here and nowhere else, between two batches: a partition that is given up or was lost is dropped
//! after the batch in hand, and one that is claimed, beside the storing of the others, is read from the cursor that the
//! claim returned. See [`crate::ownership`] for why this is safe.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::bus::{RedisClient, RedisConnector};
use shared::domain::Partition;
use shared::storage::{Installation, PartitionBatch, Store, Writers};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::batch::split;
use crate::crash_point;
use crate::events::{announce, waiting_for};
use crate::log_reader::{BatchOrigins, LogReader, ReadBatch};
use crate::ownership::claimer::{Claimed, StorageAway};
use crate::ownership::fence_poller::Fences;
use crate::ownership::worker_registry::HEARTBEAT;
use crate::ownership::{Claimer, FencePoller, OwnedPartitions, View, WorkerName, WorkerRegistry, assigned};
use crate::persist::{MAX_BYTES, MAX_ROWS, StopReason, persist};
use crate::publisher::{PendingPublication, Publisher};

/// Pause after a full batch, in which the gateways' rare writes (register, join) find SQLite unlocked. Its waiters look
/// again at intervals of up to 100 ms and would be unlucky for long beside a writer that never rests.
const BREATH: Duration = Duration::from_millis(1);

/// Pause between two questions whether storage is back, and how long the answer may take. It bounds how often a worker
/// joins that can read from storage but not write to it.
const STORAGE_CHECK: Duration = Duration::from_secs(1);

/// What the loop works with.
pub struct Pipeline {
    store: Store,
    redis: RedisClient,
    writers: Writers,
    partitions: u16,
    membership: WorkerRegistry,
    claiming: Claimer,
    fence_poller: FencePoller,
    owned: OwnedPartitions,
    source: LogReader,
    telling: Publisher,
}

impl Pipeline {
    /// A worker on `store` that joins the others: of the partitions of `installation` it takes its share, which is all or
    /// nothing with one of `writers`.
    #[must_use]
    pub fn new(redis: RedisConnector, store: Store, writers: Writers, installation: Installation) -> Self {
        Self {
            claiming: Claimer::new(store.clone()),
            fence_poller: FencePoller::new(store.clone()),
            source: LogReader::new(redis.clone(), store.clone(), installation),
            store,
            writers,
            redis: redis.client(),
            membership: WorkerRegistry::join(redis),
            partitions: installation.partitions,
            owned: OwnedPartitions::default(),
            telling: Publisher::default(),
        }
    }

    /// Works until `stop` is cancelled, finishes the transaction in hand and hands over.
    pub async fn run(mut self, stop: &CancellationToken) {
        while self.work(stop).await == StopReason::StorageAway {
            error!("leaving the partitions to others until storage answers");
            self.telling.finish().await;
            self.drop_everything();
            self.membership.leave().await;
            if !self.storage_is_back(stop).await {
                break;
            }
            self.membership.rejoin();
        }
        self.telling.finish().await;
        self.drop_everything();
        self.membership.leave().await;
    }

    async fn work(&mut self, stop: &CancellationToken) -> StopReason {
        loop {
            self.follow();
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return StopReason::Stopped,
                claimed = self.claiming.done() => match claimed {
                    Ok(claimed) => {
                        self.take(claimed).await;
                        continue;
                    }
                    Err(StorageAway) => return StopReason::StorageAway,
                },
                seen = self.fence_poller.done() => {
                    self.compare(&seen.unwrap_or_default());
                    continue;
                }
                () = self.membership.looked() => continue,
                // While Redis is silent nothing is looked at: the place is lost by the clock.
                () = sleep(HEARTBEAT) => continue,
                read = self.source.next() => read,
            };
            let Some(reads) = read else {
                error!("a reader broke down, claiming everything anew");
                self.owned.lose_all(Instant::now());
                self.source.hold(self.owned.claims());
                continue;
            };
            if let Err(stopped_by) = self.store_all(reads, stop).await {
                return stopped_by;
            }
        }
    }

    /// Gives up what is no longer ours, and begins to claim what is.
    fn follow(&mut self) {
        let view = self.membership.view();
        let wanted = self.wanted(&view);
        let given_up = self.owned.keep(&wanted);
        if given_up > 0 {
            self.source.hold(self.owned.claims());
            self.tell(&view.me, 0, given_up);
        }
        self.claiming.begin(self.owned.missing(&wanted, &view), &view.me);
        if !self.owned.is_empty() {
            self.fence_poller.begin();
        }
    }

    /// Drops what another worker has claimed by the fences in SQL.
    fn compare(&mut self, fences: &Fences) {
        let outdated = self.owned.outdated(fences);
        if !outdated.is_empty() {
            let count = outdated.len();
            info!(partitions = count, "another worker has claimed {count} partitions");
            self.owned.lose(&outdated, Instant::now());
            self.source.hold(self.owned.claims());
        }
    }

    /// What we should have now.
    fn wanted(&self, view: &View) -> BTreeSet<Partition> {
        assigned(self.writers, view.living_at(Instant::now()), &view.me, self.partitions)
    }

    /// Takes what was claimed, unless it went to another worker meanwhile, or we are another one. That one finds out by a
    /// refused commit.
    async fn take(&mut self, Claimed { owner, mut claims }: Claimed) {
        let view = self.membership.view();
        let wanted = self.wanted(&view);
        claims.retain(|claim| owner == view.me && wanted.contains(&claim.partition));
        if claims.is_empty() {
            return;
        }
        let taken: Vec<Partition> = claims.iter().map(|claim| claim.partition).collect();
        self.owned.take(claims);
        self.source.hold(self.owned.claims());
        self.tell(&view.me, taken.len(), 0);
        announce(&mut self.redis, taken).await;
    }

    fn tell(&self, me: &WorkerName, taken: usize, given_up: usize) {
        let held = self.owned.len();
        info!(worker.name = %me, partitions = held, taken, given_up, "worker {me} has {held} partitions");
    }

    /// Stores what was read, as one transaction after another. If our place is lost or a stop comes meanwhile, the rest is
    /// left to whoever reads it next.
    async fn store_all(&mut self, reads: Vec<ReadBatch>, stop: &CancellationToken) -> Result<(), StopReason> {
        crash_point::reached("after_read").await;
        let (origins, batches) = BatchOrigins::of(reads);
        let mut lost_some = false;
        for mut part in split(batches, MAX_ROWS, MAX_BYTES) {
            if stop.is_cancelled() {
                return Err(StopReason::Stopped);
            }
            if self.membership.view().living_at(Instant::now()).is_empty() {
                self.drop_everything();
                return Ok(());
            }
            part.retain(|batch| self.owned.get(batch.claim.partition).is_some());
            let was_full = part.iter().map(|batch| batch.entries.len()).sum::<usize>() >= MAX_ROWS;
            lost_some |= self.finish(part, &origins, stop).await?;
            if was_full && self.writers == Writers::One {
                sleep(BREATH).await;
            }
        }
        if lost_some {
            self.source.hold(self.owned.claims());
        }
        Ok(())
    }

    /// Stores one transaction's worth of entries, and hands on what is to be told of it; true if some partitions turned out
    /// not to be ours.
    async fn finish(
        &mut self,
        part: Vec<PartitionBatch>,
        origins: &BatchOrigins,
        stop: &CancellationToken,
    ) -> Result<bool, StopReason> {
        let waiting = waiting_for(&part);
        let persisted = persist(&self.store, part, stop).await;
        crash_point::reached("after_commit").await;
        let mut trimmable = Vec::new();
        for (partition, reached) in persisted.reached {
            if !persisted.lost.contains(&partition) {
                self.owned.advance(partition, reached.cursor);
                trimmable.push((partition, reached.last));
            }
        }
        self.owned.lose(&persisted.lost, Instant::now());
        for appended in &persisted.stored {
            let messages: usize = appended.rooms.iter().map(|(_, _, messages)| messages.len()).sum();
            debug!(
                messages,
                rooms = appended.rooms.len(),
                duplicates = appended.duplicates.len(),
                "stored {messages} messages"
            );
            if appended.dead_letters > 0 {
                let count = appended.dead_letters;
                warn!(dead_letters = count, "{count} entries were set aside as dead letters");
            }
        }
        let untold = PendingPublication {
            stored: persisted.stored,
            waiting,
            trimmable,
        };
        self.telling.begin(self.redis.clone(), origins.clone(), untold).await;
        match persisted.stopped_by {
            Some(stopped_by) => Err(stopped_by),
            None => Ok(!persisted.lost.is_empty()),
        }
    }

    fn drop_everything(&mut self) {
        self.claiming.forget();
        self.owned.clear();
        self.source.hold(std::iter::empty());
    }

    /// Waits until storage answers; false if `stop` came first.
    async fn storage_is_back(&self, stop: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(STORAGE_CHECK) => {}
            }
            if matches!(timeout(STORAGE_CHECK, self.store.ping()).await, Ok(Ok(()))) {
                return true;
            }
        }
    }
}
