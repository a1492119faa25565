//! Polls the outbox and appends the hints that gateways did not.
//!
//! A gateway that ends between its transaction and its hint, or that does not reach Redis, leaves rows of which no entry of the
//! accept log tells. A hint for them goes the way of all entries, so nothing else has to know of the outbox.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use shared::bus::{RedisClient, encode_outbox_hint};
use shared::domain::{OutboxHint, Partition, RoomId};
use shared::storage::{Installation, Store};
use shared::telemetry::FailureSeries;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

/// How often the outbox is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a poll may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// Rooms that one poll finds at most. The next one goes on after them.
const ROOMS_PER_POLL: u32 = 1_000;

/// Polls at most until a hint is sent again whose rows still wait: it waits in a long backlog, or the rows are of a later version.
const MOST_POLLS: u32 = 64;

/// What was sent for a room.
struct Sent {
    upto: i64,
    /// Polls between the hint before and the next one, if the rows still wait.
    pause: u32,
    polls_left: u32,
}

/// Polls the outbox for the rooms of some partitions.
pub(super) struct OutboxPoller {
    pub(super) store: Store,
    pub(super) redis: RedisClient,
    pub(super) installation: Installation,
    pub(super) partitions: BTreeSet<Partition>,
}

impl OutboxPoller {
    /// Polls for ever.
    pub(super) async fn run(self) {
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut after, mut sent, mut failures) = (RoomId(0), HashMap::new(), FailureSeries::default());
        loop {
            ticks.tick().await;
            let polled = match timeout(POLL_TIMEOUT, self.poll(after, &mut sent)).await {
                Ok(polled) => polled,
                Err(_) => Err(format!("no answer for {} s", POLL_TIMEOUT.as_secs())),
            };
            match polled {
                Ok(next) => {
                    failures.recovered();
                    after = next;
                }
                Err(error) => {
                    if failures.failed() {
                        warn!(error = %error, "cannot poll the outbox, retrying: {error}");
                    }
                }
            }
        }
    }

    /// Sends hints about the rooms above `after` that have rows; returns the room after which the next poll goes on.
    async fn poll(&self, after: RoomId, sent: &mut HashMap<RoomId, Sent>) -> Result<RoomId, String> {
        let found = self.store.rooms_in_outbox(after, ROOMS_PER_POLL).await.map_err(|error| error.to_string())?;
        let is_last = found.len() < ROOMS_PER_POLL as usize;
        let next = found.last().filter(|_| !is_last).map_or(RoomId(0), |last| last.room);
        // Of those in the range of this poll, the others have been taken.
        let waiting: BTreeSet<RoomId> = found.iter().map(|hint| hint.room).collect();
        sent.retain(|room, _| *room <= after || (!is_last && *room > next) || waiting.contains(room));
        let mut hints = redis::pipe();
        for hint in found {
            let partition = self.installation.partition_of(hint.room);
            if self.partitions.contains(&partition) && is_due(sent, hint) {
                let keys = self.redis.key_space();
                hints.xadd(keys.accept_stream(partition), "*", &encode_outbox_hint(hint, keys)).ignore();
            }
        }
        if !hints.is_empty() {
            let sending: redis::RedisResult<()> = hints.query_async(&mut self.redis.clone()).await;
            sending.map_err(|error| error.to_string())?;
        }
        Ok(next)
    }
}

/// Whether `hint` is to be sent now: at once if it names other rows than the last one of its room, and then ever more rarely.
fn is_due(sent: &mut HashMap<RoomId, Sent>, hint: OutboxHint) -> bool {
    let last = sent.entry(hint.room).or_insert(Sent {
        upto: i64::MIN,
        pause: 1,
        polls_left: 0,
    });
    if last.upto != hint.upto {
        (last.upto, last.pause, last.polls_left) = (hint.upto, 1, 1);
        return true;
    }
    last.polls_left = last.polls_left.saturating_sub(1);
    if last.polls_left > 0 {
        return false;
    }
    last.pause = (last.pause * 2).min(MOST_POLLS);
    last.polls_left = last.pause;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_that_achieves_nothing_is_sent_ever_more_rarely() {
        let mut sent = HashMap::new();
        let mut hint = OutboxHint {
            room: RoomId(1),
            upto: 7,
        };
        let due: Vec<u32> = (0..200).filter(|_| is_due(&mut sent, hint)).collect();
        assert_eq!(due, [0, 1, 3, 7, 15, 31, 63, 127, 191]);
        hint.upto = 8;
        assert!(is_due(&mut sent, hint) && is_due(&mut sent, hint) && !is_due(&mut sent, hint));
    }
}
