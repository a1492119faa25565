//! The worker's loop: read → commit → publish → trim, in this order for every entry.
//!
//! There is no timer that waits for a batch to fill: while one batch commits, the next collects in Redis. So a lonely
//! message does not wait, and a flood forms large batches by itself.

use std::time::Duration;

use shared::bus::{Link, Redis};
use shared::domain::{Partition, StreamId};
use shared::storage::{Claim, PartitionBatch, Store};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::crash_point;
use crate::persist::{GaveUp, MAX_BYTES, MAX_ROWS, persist, split};
use crate::publish::{publish, trim};
use crate::source::Source;

/// Pause after a full batch, in which the gateways' rare writes (register, join) find SQLite unlocked. Its waiters look
/// again at intervals of up to 100 ms and would be unlucky for long beside a writer that never rests.
const BREATH: Duration = Duration::from_millis(1);

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The stop signal came, or the lease was lost.
    Asked,
    /// Another worker has taken over.
    Fenced,
}

/// What the loop needs.
pub struct Pipeline {
    /// For the connection that blocks in reads.
    pub redis: Redis,
    /// For publishing and trimming.
    pub connection: Link,
    /// Where messages are kept.
    pub store: Store,
}

impl Pipeline {
    /// Works on `claims` until `stop` is cancelled; a batch that was read is finished first.
    pub async fn run(mut self, claims: Vec<Claim>, stop: &CancellationToken) -> Stopped {
        let mut source = Source::new(self.redis.clone(), &claims);
        while let Some(batches) = source.next(stop).await {
            crash_point::reached("after_read").await;
            for part in split(batches, MAX_ROWS, MAX_BYTES) {
                let was_full = part.iter().map(|batch| batch.entries.len()).sum::<usize>() >= MAX_ROWS;
                if self.finish(part, stop).await == Err(GaveUp::Fenced) {
                    return Stopped::Fenced;
                }
                if stop.is_cancelled() {
                    return Stopped::Asked;
                }
                if was_full {
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        Stopped::Asked
    }

    /// Takes one transaction's worth of entries through all steps.
    async fn finish(&mut self, part: Vec<PartitionBatch>, stop: &CancellationToken) -> Result<(), GaveUp> {
        let positions: Vec<(Partition, StreamId)> =
            part.iter().map(|batch| (batch.claim.partition, batch.upto())).collect();
        let stored = persist(&self.store, part, stop).await?;
        crash_point::reached("after_commit").await;
        for appended in stored {
            let messages: usize = appended.rooms.iter().map(|(_, _, messages)| messages.len()).sum();
            debug!(
                messages,
                rooms = appended.rooms.len(),
                duplicates = appended.duplicates.len(),
                "stored {messages} messages"
            );
            if appended.dead_letters > 0 {
                warn!(
                    dead_letters = appended.dead_letters,
                    "{} entries were set aside as dead letters", appended.dead_letters
                );
            }
            publish(&mut self.connection, appended).await;
        }
        crash_point::reached("after_publish").await;
        trim(&mut self.connection, &positions).await;
        crash_point::reached("after_trim").await;
        Ok(())
    }
}
