//! Compares feeds with SQL, so that messages whose events were lost come late but come.
//!
//! A gateway with few rooms compares them all every second, by one query. One with many finds the heads that moved by their
//! positions, also by one query if its rooms are silent, however many it has. Beside that, rooms are compared one by one where there
//! is a reason to doubt them: their partition was taken over, or their subscription was lost.
//!
//! A gateway with many compares all one by one as well, a part of them every second and each once a minute. A position is written for
//! this comparison alone, while the seq of a head decides what a room has: one that is missing or too low, because somebody
//! has changed rows by hand or has a worker of an earlier release still running, delays messages and loses none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::domain::{Partition, RoomId};
use shared::storage::MovedHead;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Hub;
use super::feed_entry::FeedEntry;
use crate::live::feed::Feed;

/// How often the heads that moved are looked for.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// Heads that moved, read by one query: the next query goes on after them.
const HEADS_AT_ONCE: u32 = 1_000;

/// Rooms compared one by one by one query. A gateway with more looks for the heads that moved instead: among few rooms that would
/// read what moved in all others.
const ROOMS_AT_ONCE: usize = 1_000;

/// Rounds in which every room is compared once: a minute.
const ROUNDS: i64 = 60;

/// With many feeds they are tended in every so many rounds: a pass over 20,000 takes milliseconds.
const TEND_EVERY: i64 = 2;

impl Hub {
    /// Compares feeds with SQL, every second and at once where partitions are stale, closes idle feeds and
    /// enforces the budget of the rings, until `stop` is cancelled. What a failed read left missing is read again within two seconds.
    pub async fn maintain(self, stop: CancellationToken) {
        let mut ticks = interval(COMPARE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = 0;
        // For the horizon feeds are compared more often.
        let mut compared_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                partitions = self.shared.resync_queue.next_stale() => {
                    self.compare(|_, feed| partitions.contains(&feed.partition)).await;
                }
                () = self.shared.horizon.due() => {
                    let now = Instant::now();
                    if self.update_horizon().await {
                        compared_at = Some(now);
                    }
                }
                _ = ticks.tick() => {
                    let with_gaps =
                        if self.has_few_feeds() || round % TEND_EVERY == 0 { self.tend() } else { Vec::new() };
                    let is_compared = compared_at.is_some_and(|at| at.elapsed() < COMPARE_EVERY);
                    let answered = (is_compared || self.find_missing().await)
                        && (self.has_few_feeds() || self.compare(|room, _| is_turn_of(room, round)).await);
                    if answered {
                        self.repair_gaps(&with_gaps);
                    }
                    round = (round + 1) % ROUNDS;
                }
            }
        }
    }

    fn has_few_feeds(&self) -> bool {
        self.shared.feeds.lock().len() <= ROOMS_AT_ONCE
    }

    /// Finds what no event brought: all of it, or what the positions of heads show if there are many feeds. False if SQL did not answer.
    pub(super) async fn find_missing(&self) -> bool {
        if self.has_few_feeds() {
            self.compare(|_, _| true).await
        } else {
            self.find_moved(HEADS_AT_ONCE).await
        }
    }

    /// Schedules a comparison of the rooms of `partitions`: another worker owns them now, and the one before may have stored messages
    /// without publishing them.
    ///
    /// The former owner stores nothing after the comparison either: the claim of the new one was committed before it was
    /// announced, and from then on the commits of the former one fail.
    pub fn mark_stale(&self, partitions: &[Partition]) {
        self.shared.resync_queue.mark_stale(partitions);
    }

    /// Schedules a comparison of all rooms: events of any of them may have been missed.
    pub fn mark_all_stale(&self) {
        let partitions: Vec<Partition> = (0..self.shared.installation.partitions).map(Partition).collect();
        self.mark_stale(&partitions);
    }

    /// Finds the messages that no event brought, by the positions of their rooms' heads; reads `page` heads at once.
    ///
    /// A head that moves is noted in a feed that is not started, too: the feed may have read its own head before. False if SQL did
    /// not answer.
    pub(super) async fn find_moved(&self, page: u32) -> bool {
        loop {
            let snapshot = self.shared.cursors.snapshot();
            if snapshot.cursors.is_empty() {
                return true;
            }
            let moved = match self.shared.store.moved_heads(&snapshot.cursors, page).await {
                Ok(moved) => moved,
                Err(error) => {
                    warn!(error = %error, "cannot look for heads that moved: {error}");
                    return false;
                }
            };
            let entries = {
                let feeds = self.shared.feeds.lock();
                let open = |head: &MovedHead| Some((Arc::clone(feeds.get(&head.room)?), head.seq));
                moved.iter().filter_map(open).collect::<Vec<_>>()
            };
            for (entry, head) in entries {
                self.note_stored_head(&entry, head);
            }
            self.shared.cursors.advance(&snapshot, &moved);
            if u32::try_from(moved.len()).is_ok_and(|found| found < page) {
                return true;
            }
        }
    }

    /// Compares the feeds that are `wanted` one by one, those that are not started, too. False if SQL did not answer.
    pub(super) async fn compare(&self, wanted: impl Fn(RoomId, &Feed) -> bool) -> bool {
        let entries: Vec<Arc<FeedEntry>> = {
            let feeds = self.shared.feeds.lock();
            let wanted = feeds.iter().filter(|(room, entry)| wanted(**room, &entry.feed));
            wanted.map(|(_, entry)| Arc::clone(entry)).collect()
        };
        for some in entries.chunks(ROOMS_AT_ONCE) {
            let rooms: Vec<RoomId> = some.iter().map(|entry| entry.feed.room).collect();
            match self.shared.store.heads(&rooms).await {
                Ok(heads) => {
                    for entry in some {
                        self.note_stored_head(entry, heads.get(&entry.feed.room).copied().unwrap_or_default().seq);
                    }
                }
                Err(error) => {
                    warn!(error = %error, "cannot compare heads: {error}");
                    return false;
                }
            }
        }
        true
    }

    /// Reads what feeds are still missing because a read of it failed.
    pub(super) fn repair_gaps(&self, entries: &[Arc<FeedEntry>]) {
        for entry in entries.iter().filter(|entry| entry.feed.has_gap()) {
            self.repair(entry);
        }
    }
}

/// Whether `room` is one of those that are compared in `round`.
pub(super) fn is_turn_of(room: RoomId, round: i64) -> bool {
    room.0.rem_euclid(ROUNDS) == round
}
