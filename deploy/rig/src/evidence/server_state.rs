//! What the database, Redis and the processes were in, and when the rig itself stood between them and their clients.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

/// A time at one gateway: how long a try of a post took, or when the gateway could hardly be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayInterval {
    /// Number of the gateway.
    pub gateway: usize,
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub until: Duration,
}

impl GatewayInterval {
    pub(super) fn overlaps(&self, gateway: usize, from: Duration, until: Duration) -> bool {
        self.gateway == gateway && self.from < until && from < self.until
    }
}

/// The database was put back to a copy of it.
#[derive(Debug, Clone, Default)]
pub struct Restore {
    /// When the copy was begun: what was acknowledged before is in it.
    pub copied: Duration,
    /// From when no gateway served.
    pub from: Duration,
    /// From when every gateway served the new epoch.
    pub until: Duration,
    /// What was stored before, and is not in the copy.
    pub undone: HashSet<Uuid>,
    /// What of it was no longer in the accept log; the rest is stored again, perhaps at other positions.
    pub lost: HashSet<Uuid>,
}

/// One row of the table of cursors, as it was at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i64,
    /// The read position in the accept log.
    pub cursor: (i64, i64),
    /// The number of the ownership.
    pub fence: i64,
    /// The worker that owns it.
    pub owner: String,
}

/// Resident memory of a process, or used memory of Redis, in KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySample {
    /// Which process.
    pub process: String,
    /// How much.
    pub kib: u64,
}
