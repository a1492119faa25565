//! Indexes messages for searches, after their commit.
//!
//! No commit waits for it, and a search finds messages without it, only more slowly. So it can be late and may fail, and what a
//! worker leaves undone when it ends is found by the next look.

use std::time::Duration;

use shared::domain::RoomId;
use shared::storage::{Store, StoreError};
use shared::telemetry::FailureSeries;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

/// How often it looks for rooms with new messages, if that takes no noticeable time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The share of the time that looking for rooms takes at most: looking takes longer the more rooms there are.
const LOOKING_SHARE: u32 = 20;

/// Rooms that are listed at once.
const ROOMS: u32 = 100;

/// Indexes what is stored until `stop` is cancelled.
pub async fn run(store: Store, stop: CancellationToken) {
    let mut failures = FailureSeries::default();
    while !stop.is_cancelled() {
        let pause = match index_all_once(&store, &stop).await {
            Ok(pause) => {
                failures.recovered();
                pause
            }
            Err(error) => {
                if failures.failed() {
                    warn!(error = %error, "cannot index messages for searches, retrying: {error}");
                }
                INTERVAL
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Takes one step in every room that has messages to be indexed, so that a room with many keeps none waiting. Returns the pause before
/// the next look.
async fn index_all_once(store: &Store, stop: &CancellationToken) -> Result<Duration, StoreError> {
    let (mut after, mut looking, mut is_behind) = (RoomId(0), Duration::ZERO, false);
    loop {
        let began = Instant::now();
        let mut rooms = store.rooms_to_index(after, ROOMS).await?;
        looking += began.elapsed();
        let is_last = rooms.len() < ROOMS as usize;
        after = rooms.last().copied().unwrap_or(after);
        // Several workers begin at different rooms. Where two meet, one of them has worked in vain.
        let start = usize::try_from(Uuid::new_v4().as_u64_pair().0 >> 32).unwrap_or(0) % rooms.len().max(1);
        rooms.rotate_left(start);
        for room in rooms {
            if stop.is_cancelled() {
                return Ok(INTERVAL);
            }
            is_behind |= store.index_room(room).await?;
        }
        if is_last {
            break;
        }
    }
    Ok(if is_behind {
        Duration::ZERO
    } else {
        INTERVAL.max(looking * LOOKING_SHARE)
    })
}
