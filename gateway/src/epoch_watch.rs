//! Notices that a new epoch of history has begun: the database was restored from a backup.
//!
//! What a gateway remembers, and where its streams stand, is of a history that is gone. It forgets all of it and ends every
//! stream; whoever comes back with a position of the former epoch is told by `reset`.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::Epoch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::app::App;
use crate::live::ByeReason;

/// How often the epoch is looked at. A worker that begins one stores nothing for twice as long.
const CHECK_EVERY: Duration = Duration::from_millis(500);

impl App {
    /// Compares the epoch with SQL until `stop` is cancelled. A worker that begins one stores nothing for longer than it
    /// takes to notice it here.
    pub(crate) async fn watch_epoch(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // That SQL cannot be read is said by the watch over removals.
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
        self.history_pages.forget_all();
        self.sessions.forget_all();
        self.rooms.forget_all();
        for stream in self.stream_registry.all() {
            stream.end(ByeReason::HistoryChanged);
        }
    }
}
