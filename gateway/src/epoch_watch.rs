//! Epoch watch: detects that a new epoch of history has begun, because the database was restored from a backup.
//!
//! The caches of a gateway and the positions of its streams belong to a history that is gone then. The gateway empties all
//! caches and ends every stream; a client that comes back with a position of the former epoch gets a `reset`.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::Epoch;
use shared::storage::Store;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::auth::sessions::Sessions;
use crate::history::HistoryPages;
use crate::live::{ByeReason, Hub, StreamRegistry};
use crate::room_directory::RoomDirectory;

/// How often the epoch is read from SQL. A worker that begins one stores nothing for twice as long.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Everything that belongs to one epoch.
pub(crate) struct EpochWatch {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) history: HistoryPages,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) directory: Arc<RoomDirectory>,
    pub(crate) streams: StreamRegistry,
}

impl EpochWatch {
    /// Compares the epoch with SQL until `stop` is cancelled. A worker that begins one stores nothing for longer than it takes to
    /// detect it here.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut ticks = interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // A failure of SQL is reported by the revocation watcher.
            if let Ok((epoch, _)) = self.store.epoch().await
                && epoch != self.hub.epoch()
            {
                self.begin_epoch(epoch);
            }
        }
    }

    fn begin_epoch(&self, epoch: Epoch) {
        error!("history was restored from a backup or cut: every stream is ended and begins anew");
        // In this order: a stream that is opened from now on is of the new epoch, and all others are registered.
        self.hub.begin_epoch(epoch);
        self.history.forget_all();
        self.sessions.forget_all();
        self.directory.forget_all();
        for stream in self.streams.all() {
            stream.end(ByeReason::HistoryChanged);
        }
    }
}
