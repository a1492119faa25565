//! Opens feeds: many at once cost one round of subscriptions and one read of their heads.
//!
//! A stream of 500 rooms that nobody else here follows opens 500 feeds, and after a restart thousands of streams come back
//! within seconds. Feeds that are opened at about the same time, by one reader or by many, are started as one batch.

use std::collections::{BTreeSet, HashSet};
use std::slice;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use shared::batcher::{BatchLimits, Batcher};
use shared::domain::{Partition, RoomId};
use shared::storage::{Room, StoreError};
use tokio::time::timeout;

use super::feed_entry::{FeedEntry, OpenFeed};
use super::{Hub, Shared};

/// Feeds started at the same time: those of one reader in many rooms fit into one batch. Beyond that a feed waits for one of the
/// batches to end, and its reader fails after [`OPEN_TIME`].
const LIMITS: BatchLimits = BatchLimits {
    batches: 4,
    calls: 1_024,
};

/// How long a batch waits until the events of its rooms are subscribed to. Without them, as while Redis is away, a feed gets its
/// messages by the comparison of heads.
const SUBSCRIBE_TIME: Duration = Duration::from_millis(500);

/// How long a reader waits for a feed to start.
pub(super) const OPEN_TIME: Duration = Duration::from_secs(5);

/// Why a feed cannot be read now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// Storage has not answered in time which seq is the last of the room.
    #[error("the head of the room was not read in time")]
    Late,
    /// The process is stopping.
    #[error("live events are no longer subscribed to")]
    Stopping,
    /// Storage failed, for all feeds of the batch.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

/// Starts feeds in batches.
pub(super) type Starts = Batcher<Arc<FeedEntry>, Result<(), OpenError>>;

/// Starts the feeds of the hub that `shared` belongs to.
pub(super) fn starts(shared: Weak<Shared>) -> Starts {
    Batcher::new(LIMITS, move |entries: Vec<Arc<FeedEntry>>| {
        let shared = shared.upgrade();
        async move {
            match shared {
                Some(shared) => Hub { shared }.start(&entries).await,
                // Nobody waits any more: who does holds the hub.
                None => Vec::new(),
            }
        }
        .boxed()
    })
}

impl Hub {
    /// The feed of `room`, started if it was not.
    pub async fn open(&self, room: &Room) -> Result<OpenFeed, OpenError> {
        let mut open = self.open_all(slice::from_ref(room)).await?;
        open.pop().ok_or(OpenError::Late)
    }

    /// The feeds of `rooms` in this order, each started if it was not. If one cannot be opened, none is.
    pub async fn open_all(&self, rooms: &[Room]) -> Result<Vec<OpenFeed>, OpenError> {
        let open: Vec<OpenFeed> = {
            let mut feeds = self.shared.feeds.lock();
            let hold = |room: &Room| OpenFeed::hold(feeds.entry(room.id).or_insert_with(|| self.entry(room)));
            rooms.iter().map(hold).collect()
        };
        let cold = open.iter().filter(|open| !open.0.started.initialized());
        let start = try_join_all(cold.map(|open| open.0.started.get_or_try_init(|| self.start_in_batch(&open.0))));
        timeout(OPEN_TIME, start).await.map_err(|_| OpenError::Late)??;
        Ok(open)
    }

    async fn start_in_batch(&self, entry: &Arc<FeedEntry>) -> Result<(), OpenError> {
        let started = self.shared.starts.call(Arc::clone(entry)).await;
        started.unwrap_or_else(|| Err(Arc::new(StoreError::task_failed()).into()))
    }

    /// Subscribes first and reads the heads then, so that events bring what is stored in between.
    async fn start(&self, entries: &[Arc<FeedEntry>]) -> Vec<Result<(), OpenError>> {
        let refused = self.subscribe(entries).await;
        if let Err(error) = self.start_at_heads(entries).await {
            return entries.iter().map(|_| Err(error.clone())).collect();
        }
        let is_refused = |entry: &Arc<FeedEntry>| refused.contains(&entry.feed.room);
        entries
            .iter()
            .map(|entry| {
                if is_refused(entry) {
                    Err(OpenError::Stopping)
                } else {
                    Ok(())
                }
            })
            .collect()
    }

    /// Subscribes to the events of the feeds. Returns the rooms that are no longer to be subscribed to.
    async fn subscribe(&self, entries: &[Arc<FeedEntry>]) -> HashSet<RoomId> {
        let channel = |entry: &Arc<FeedEntry>| self.shared.keys.room_channel(entry.feed.partition, entry.feed.room);
        let confirmations = self.shared.subscriber.subscribe_all(entries.iter().map(channel).collect());
        let waits = confirmations.into_iter().zip(entries).map(|(confirmation, entry)| {
            let (room, partition) = (entry.feed.room, entry.feed.partition);
            confirmation.map(move |confirmed| (room, partition, confirmed.is_ok()))
        });
        let mut waits: FuturesUnordered<_> = waits.collect();
        let mut refused = HashSet::new();
        let all = async {
            while let Some((room, _, is_confirmed)) = waits.next().await {
                if !is_confirmed {
                    refused.insert(room);
                }
            }
        };
        if timeout(SUBSCRIBE_TIME, all).await.is_err() {
            let hub = self.clone();
            // The task ends at the latest when the channels are unsubscribed from.
            tokio::spawn(async move {
                while let Some((_, partition, is_confirmed)) = waits.next().await {
                    if is_confirmed {
                        hub.mark_stale(&[partition]);
                    }
                }
            });
        }
        refused
    }

    /// Starts the feeds at their heads by SQL: one query, and one more where a partition has its first feed.
    async fn start_at_heads(&self, entries: &[Arc<FeedEntry>]) -> Result<(), OpenError> {
        let partitions: BTreeSet<Partition> = entries.iter().map(|entry| entry.feed.partition).collect();
        self.shared.cursors.begin(&self.shared.store, &partitions).await.map_err(Arc::new)?;
        let rooms: Vec<RoomId> = entries.iter().map(|entry| entry.feed.room).collect();
        let heads = self.shared.store.heads(&rooms).await.map_err(Arc::new)?;
        for entry in entries {
            let head = heads.get(&entry.feed.room).copied().unwrap_or_default();
            entry.feed.start(head);
            self.note_stored_head(entry, head.seq);
        }
        Ok(())
    }
}
