//! What a worker sees of the others: their names, and until when it may rely on having seen them.
//!
//! A [`View`] is valid until this worker's registration would expire by its own clock, counted from before the request was
//! sent. A process that was paused compares that clock with the view before it uses the view, and so notices its own pause.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// How long the registration of a worker lasts that does not renew it.
pub const TTL: Duration = Duration::from_millis(1_500);

/// How long the registration of a worker lasts whose connection to Redis is gone: time for a new connection when Redis itself
/// was away.
pub const GRACE: Duration = Duration::from_millis(300);

/// How often a worker reads the registry: how soon others take over from a worker that leaves.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// The name of a worker for as long as it keeps its registration. Names sort by the time at which they were created (UUIDv7).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName(String);

impl WorkerName {
    /// A name that no worker had before.
    #[must_use]
    pub fn fresh() -> Self {
        Uuid::now_v7().into()
    }

    /// A name as it stands in Redis.
    pub(super) fn from_redis(raw: String) -> Self {
        Self(raw)
    }

    /// The name as it stands in Redis and SQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for WorkerName {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl std::fmt::Display for WorkerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one heartbeat read from the registry.
#[derive(Debug, Clone)]
pub struct View {
    /// The name under which this worker is registered.
    pub me: WorkerName,
    /// The living workers, this one included; empty if this one has left.
    pub living: Arc<[WorkerName]>,
    /// When the request was sent, by this worker's clock.
    pub asked_at: Instant,
    /// Until when the view is valid, by this worker's clock.
    pub valid_until: Instant,
}

impl View {
    /// The living workers if the view is still valid at `now`, none otherwise.
    #[must_use]
    pub fn living_at(&self, now: Instant) -> &[WorkerName] {
        if now < self.valid_until { &self.living } else { &[] }
    }
}
