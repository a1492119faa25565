//! Reminds the worker of what waits in the outbox: it appends the hints that gateways did not.
//!
//! A gateway that ends between its transaction and its hint, or that does not reach Redis, leaves rows of which no entry of the
//! accept log tells. A hint for them goes the way of all entries, so nothing else has to know of the outbox.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use shared::bus::{KeySpace, encode_outbox_hint};
use shared::domain::{Partition, RoomId};
use shared::storage::{Installation, Store};
use tokio::time::{Instant, timeout};
use tracing::warn;

/// How often the outbox is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How long the look may take. The reader waits for it, and reads nothing meanwhile; a database that is slower stores nothing
/// either.
const LOOK_TIME: Duration = Duration::from_millis(500);

/// Rooms that one look finds at most. The next one goes on after them.
const ROOMS: u32 = 1_000;

/// Looks at the outbox once a second.
pub(super) struct OutboxReminder {
    store: Store,
    installation: Installation,
    looked: Instant,
    /// Rooms up to this one were found by the last look; the next begins after it.
    after: RoomId,
}

impl OutboxReminder {
    pub(super) fn new(store: Store, installation: Installation) -> Self {
        Self {
            store,
            installation,
            looked: Instant::now(),
            after: RoomId(0),
        }
    }

    /// Appends hints for the rooms of `partitions` that the outbox has rows about, if it is time. They may be about rows that are
    /// taken meanwhile: such a hint does nothing.
    pub(super) async fn remind(
        &mut self,
        connection: &mut MultiplexedConnection,
        keys: &KeySpace,
        partitions: impl Fn(Partition) -> bool,
    ) -> redis::RedisResult<()> {
        if self.looked.elapsed() < EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        let found = match timeout(LOOK_TIME, self.store.rooms_in_outbox(self.after, ROOMS)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                warn!(error = %error, "cannot look at the outbox: {error}");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let is_full = found.len() >= usize::try_from(ROOMS).unwrap_or(usize::MAX);
        self.after = found.last().filter(|_| is_full).map_or(RoomId(0), |last| last.room);
        let mut hints = redis::pipe();
        for hint in found {
            let partition = self.installation.partition_of(hint.room);
            if partitions(partition) {
                hints.xadd(keys.accept_stream(partition), "*", &encode_outbox_hint(hint, keys)).ignore();
            }
        }
        if hints.is_empty() {
            return Ok(());
        }
        hints.query_async(connection).await
    }
}
