//! Removing what is stored from the accept log.
//!
//! Not with every commit: to remove is a write, which Redis brings to disk like every other, and nobody waits for it. What a
//! failure or a kill leaves there is found by the next reader that connects, and removed then; a reader whose server
//! cannot be reached for it connects anew.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use shared::domain::{Partition, StreamId};
use tokio::time::sleep;
use tracing::warn;

use crate::crash_point;
use crate::log_reader::{BatchOrigins, Server};

/// How long what is stored may lie there. It counts as waiting until then, which is little beside what may wait.
const TRIM_AFTER: Duration = Duration::from_millis(100);

/// What is to be removed. Clones share it.
#[derive(Clone, Default)]
pub struct Trimmer(Arc<Mutex<Due>>);

/// One position for each partition at most.
#[derive(Default)]
struct Due {
    positions: HashMap<Partition, (StreamId, Server)>,
    /// Somebody will see to it.
    is_timed: bool,
}

impl Trimmer {
    /// Has what lies up to `positions` removed from the servers it was read from, within 0.1 s.
    pub fn add(&self, origins: &BatchOrigins, positions: Vec<(Partition, StreamId)>) {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, upto) in positions {
            if let Some(server) = origins.server_of(partition) {
                due.positions.insert(partition, (upto, server.clone()));
            }
        }
        if !due.is_timed && !due.positions.is_empty() {
            due.is_timed = true;
            let this = self.clone();
            tokio::spawn(async move {
                sleep(TRIM_AFTER).await;
                this.trim().await;
            });
        }
    }

    /// Removes it now, on all servers side by side.
    pub async fn trim(&self) {
        let due = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
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
