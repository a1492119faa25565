//! The worker's loop: claim partitions, then read → commit → publish → trim, in this order for every entry.
//!
//! ```text
//!  next_event() ──► Event ──► reducer: State::apply ──► Decision ──► effects, then what to wait for
//!       ▲                                                                      │
//!       └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`Pipeline`] waits and executes; the module `reducer` decides and does neither. `Pipeline::next_event` is the only place that
//! awaits anything, so nothing changes while the reducer decides.
//!
//! The steps of successive batches overlap: while one commits, the log reader reads the next, and the publisher publishes the
//! one before. No timer waits for a batch to fill: what arrives during a commit is the next batch. So a lonely message does not
//! wait, and a flood forms large batches by itself.
//!
//! Which partitions this worker owns changes in the reducer and nowhere else, between two batches: a partition that it gives up
//! or lost is dropped after the batch in hand, and one that it claims, while the others are stored, is read from the cursor that
//! the claim returned. See [`crate::ownership`] for why this is safe.

mod decision;
mod event;
mod reducer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::bus::{RedisClient, RedisConnector};
use shared::domain::Partition;
use shared::storage::{Installation, PartitionBatch, Store, Writers};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::decision::{Effect, Next, Report};
use self::event::{Event, Snapshot};
use self::reducer::State;
use crate::crash_point;
use crate::log_reader::{BatchServers, LogReader};
use crate::ownership::view::HEARTBEAT;
use crate::ownership::{Claimer, FencePoller, WorkerRegistry};
use crate::persist::{Persisted, persist};
use crate::publications::{announce, receipt_requests};
use crate::publisher::Publisher;

/// Pause after a full transaction, in which the gateways' rare writes (register, join) find SQLite unlocked. SQLite's waiters
/// retry at intervals of up to 100 ms and would fail for long while a writer never pauses.
const PAUSE_AFTER_FULL: Duration = Duration::from_millis(1);

/// Pause between two checks whether storage answers again, and how long the answer may take. It bounds how often a worker joins
/// that can read from storage but not write to it.
const STORAGE_CHECK: Duration = Duration::from_secs(1);

/// A worker: the reducer's state, and the connections that its effects use.
pub struct Pipeline {
    state: State,
    store: Store,
    redis: RedisClient,
    registry: WorkerRegistry,
    claimer: Claimer,
    fence_poller: FencePoller,
    log_reader: LogReader,
    publisher: Publisher,
    /// The partitions that are read, for others who work on them.
    owned: watch::Sender<BTreeSet<Partition>>,
    /// Entries that were stored.
    stored: Arc<AtomicU64>,
}

impl Pipeline {
    /// A worker on `store` that joins the others. Of the partitions of `installation` it takes its share, which is all or nothing
    /// with one of `writers`.
    #[must_use]
    pub fn new(redis: RedisConnector, store: Store, writers: Writers, installation: Installation) -> Self {
        Self {
            state: State::new(writers, installation.partitions),
            claimer: Claimer::new(store.clone()),
            fence_poller: FencePoller::new(store.clone()),
            log_reader: LogReader::new(redis.clone(), store.clone(), installation),
            publisher: Publisher::new(redis.client()),
            redis: redis.client(),
            registry: WorkerRegistry::join(redis),
            owned: watch::Sender::default(),
            stored: Arc::default(),
            store,
        }
    }

    /// The partitions that this worker owns, now and later.
    #[must_use]
    pub fn owned_partitions(&self) -> watch::Receiver<BTreeSet<Partition>> {
        self.owned.subscribe()
    }

    /// How many entries this worker has stored, now and later.
    #[must_use]
    pub fn stored_entries(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.stored)
    }

    /// Works until `stop` is cancelled, finishes the transaction in hand and hands its partitions over.
    pub async fn run(mut self, stop: &CancellationToken) {
        let mut event = Event::Started;
        loop {
            let snapshot = Snapshot {
                now: Instant::now(),
                view: self.registry.view(),
                is_stopping: stop.is_cancelled(),
            };
            let decision = self.state.apply(event, &snapshot);
            for effect in decision.effects {
                self.execute(effect);
            }
            event = match self.next_event(decision.next, stop).await {
                Some(event) => event,
                None => return,
            };
        }
    }

    /// Waits for what the reducer named; `None` once the worker has handed over.
    async fn next_event(&mut self, next: Next, stop: &CancellationToken) -> Option<Event> {
        // The publication of the last commit starts when the one before is through.
        self.publisher.start_submitted().await;
        Some(match next {
            Next::Input => self.next_input(stop).await,
            Next::Commit(batches) => self.commit(batches, stop).await,
            Next::Pause => {
                sleep(PAUSE_AFTER_FULL).await;
                Event::Paused
            }
            Next::Announce(partitions) => {
                announce(&mut self.redis, partitions).await;
                Event::Announced
            }
            Next::FinishPublishing => {
                self.publisher.finish().await;
                Event::PublishingFinished
            }
            Next::Leave => {
                self.registry.leave().await;
                Event::Left
            }
            Next::CheckStorage => self.check_storage(stop).await,
            Next::Exit => return None,
        })
    }

    async fn next_input(&mut self, stop: &CancellationToken) -> Event {
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::StopRequested,
            claimed = self.claimer.finished() => claimed.map_or_else(Event::from, Event::Claimed),
            fences = self.fence_poller.finished() => Event::FencesPolled(fences.unwrap_or_default()),
            () = self.registry.changed() => Event::ViewChanged,
            // While Redis is silent no view arrives: the clock alone shows that this worker's registration has expired.
            () = sleep(HEARTBEAT) => Event::ViewChanged,
            read = self.log_reader.next() => match read {
                Some(reads) => {
                    crash_point::reached("after_read").await;
                    let (servers, batches) = BatchServers::of(reads);
                    Event::Read { servers, batches }
                }
                None => Event::ReaderFailed,
            },
        }
    }

    /// Stores one transaction's worth of entries.
    async fn commit(&self, batches: Vec<PartitionBatch>, stop: &CancellationToken) -> Event {
        let receipt_requests = receipt_requests(&batches);
        let persisted = persist(&self.store, batches, stop).await;
        crash_point::reached("after_commit").await;
        let entries = persisted.stored.iter().flat_map(|committed| &committed.rooms).map(|room| room.entries.len());
        self.stored.fetch_add(entries.sum::<usize>() as u64, Ordering::Relaxed);
        log_stored(&persisted);
        Event::Committed {
            persisted,
            receipt_requests,
        }
    }

    /// Asks after a pause whether storage answers.
    async fn check_storage(&self, stop: &CancellationToken) -> Event {
        tokio::select! {
            () = stop.cancelled() => return Event::StopRequested,
            () = sleep(STORAGE_CHECK) => {}
        }
        let answers = matches!(timeout(STORAGE_CHECK, self.store.ping()).await, Ok(Ok(())));
        Event::StorageChecked { answers }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Assign(claims) => {
                self.owned.send_replace(claims.iter().map(|claim| claim.partition).collect());
                self.log_reader.assign(&claims);
            }
            Effect::Claim { partitions, owner } => self.claimer.begin(partitions, &owner),
            Effect::ClaimNothing => self.claimer.forget_failures(),
            Effect::ForgetClaim => self.claimer.forget(),
            Effect::PollFences => self.fence_poller.poll_if_due(),
            Effect::Publish { servers, publication } => self.publisher.submit(servers, publication),
            Effect::Rejoin => self.registry.rejoin(),
            Effect::Report(report) => log(&report),
        }
    }
}

fn log(report: &Report) {
    match report {
        Report::Owns {
            me,
            owned,
            claimed,
            given_up,
        } => {
            info!(worker.name = %me, partitions = owned, taken = claimed, given_up, "worker {me} has {owned} partitions");
        }
        Report::ClaimedByAnother(count) => info!(partitions = count, "another worker has claimed {count} partitions"),
        Report::ReaderFailed => error!("a reader broke down, claiming everything anew"),
        Report::StorageUnavailable => error!("leaving the partitions to others until storage answers"),
    }
}

fn log_stored(persisted: &Persisted) {
    for committed in &persisted.stored {
        let messages: usize = committed.rooms.iter().map(|of_room| of_room.entries.len()).sum();
        debug!(
            messages,
            rooms = committed.rooms.len(),
            duplicates = committed.duplicates.len(),
            "stored {messages} messages"
        );
        if committed.dead_letters > 0 {
            let count = committed.dead_letters;
            warn!(dead_letters = count, "{count} entries were set aside as dead letters");
        }
    }
}
