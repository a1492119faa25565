//! Removes stored entries from the accept log.
//!
//! It does so every 0.1 s and not with every commit: a removal is a write, which Redis syncs to disk like every other, and
//! no caller waits for it. The next reader that connects finds what a failure or a kill left behind, and removes it then; a reader
//! whose server cannot be reached for removals connects anew.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use shared::domain::{LogEntryId, Partition};
use tokio::time::sleep;
use tracing::warn;

use crate::crash_point;
use crate::log_reader::{BatchServers, LogServer};

/// How long stored entries may stay in the log. They count towards the backlog until then, which is little compared with its bound.
const TRIM_AFTER: Duration = Duration::from_millis(100);

/// What is to be removed. Clones share it.
#[derive(Clone, Default)]
pub struct Trimmer(Arc<Mutex<Due>>);

/// One position for each partition at most.
#[derive(Default)]
struct Due {
    positions: HashMap<Partition, (LogEntryId, LogServer)>,
    /// Whether a task will remove them.
    is_scheduled: bool,
}

impl Trimmer {
    /// Schedules the removal of everything up to `positions`, from the servers it was read from, within 0.1 s.
    pub fn schedule(&self, servers: &BatchServers, positions: Vec<(Partition, LogEntryId)>) {
        let mut due = self.0.lock();
        for (partition, upto) in positions {
            if let Some(server) = servers.server_of(partition) {
                due.positions.insert(partition, (upto, server.clone()));
            }
        }
        if !due.is_scheduled && !due.positions.is_empty() {
            due.is_scheduled = true;
            let this = self.clone();
            tokio::spawn(async move {
                sleep(TRIM_AFTER).await;
                this.trim().await;
            });
        }
    }

    /// Removes what is due at once, on all servers concurrently.
    pub async fn trim(&self) {
        let due = mem::take(&mut *self.0.lock());
        if due.positions.is_empty() {
            return;
        }
        let removals = due.positions.iter().map(|(partition, (upto, server))| server.remove(*partition, *upto));
        if let Some(error) = join_all(removals).await.into_iter().find_map(Result::err) {
            warn!(error = %error, "stored entries were not removed from the accept log: {error}");
        }
        crash_point::reached("after_trim").await;
    }
}
