//! Up to which position the heads of each partition were seen to move.
//!
//! A partition has a cursor from before the head of its first feed was read until its last feed is closed. Positions of a
//! partition grow from commit to commit, so what moves later lies above the cursor.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use shared::domain::{Partition, Position};
use shared::storage::{MovedHead, Store, StoreError};

/// The cursors of this process.
#[derive(Default)]
pub(super) struct HeadCursors {
    state: Mutex<State>,
    /// Held while it is read where a cursor begins, so that those who open feeds at the same time read it once.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// How often all cursors were dropped. A position that was read before that belongs to a history that is gone.
    resets: u64,
    cursors: BTreeMap<Partition, Position>,
}

/// The cursors at some time.
pub(super) struct Snapshot {
    resets: u64,
    pub(super) cursors: Vec<(Partition, Position)>,
}

impl HeadCursors {
    /// Gives those of `partitions` a cursor that have none. Their heads that are read after this are not older.
    pub(super) async fn begin(&self, store: &Store, partitions: &BTreeSet<Partition>) -> Result<(), StoreError> {
        let missing = || {
            let state = self.state.lock();
            let is_missing = |partition: &&Partition| !state.cursors.contains_key(*partition);
            let missing: Vec<Partition> = partitions.iter().filter(is_missing).copied().collect();
            (!missing.is_empty()).then_some((missing, state.resets))
        };
        if missing().is_none() {
            return Ok(());
        }
        let _beginning = self.beginning.lock().await;
        let Some((missing, resets)) = missing() else {
            return Ok(());
        };
        let last = store.last_positions(&missing).await?;
        let mut state = self.state.lock();
        if state.resets == resets {
            state.cursors.extend(last);
        }
        Ok(())
    }

    /// Drops the cursors of all partitions but those that have `open` feeds.
    pub(super) fn retain(&self, open: &BTreeSet<Partition>) {
        self.state.lock().cursors.retain(|partition, _| open.contains(partition));
    }

    /// The cursors now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        Snapshot {
            resets: state.resets,
            cursors: state.cursors.iter().map(|(partition, position)| (*partition, *position)).collect(),
        }
    }

    /// Moves the cursors up to the heads that were `moved` above the snapshot.
    pub(super) fn advance(&self, snapshot: &Snapshot, moved: &[MovedHead]) {
        let mut state = self.state.lock();
        if state.resets != snapshot.resets {
            return;
        }
        for head in moved {
            if let Some(cursor) = state.cursors.get_mut(&head.partition) {
                *cursor = head.position.max(*cursor);
            }
        }
    }

    /// Drops all cursors: positions may have gone back.
    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        state.resets += 1;
        state.cursors.clear();
    }
}
