//! How long users take to catch up with all their rooms.

use rig::{Failure, Latencies, Percentiles, Result};
use serde::{Deserialize, Serialize};

use crate::results::process_cost::{as_f64, ratio};

/// The calls by which users catch up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncTimes {
    /// The first page of `/user/sync` without a cursor.
    pub cold: CallTimes,
    /// `/user/sync` with a cursor since which a few rooms have a new message.
    pub changed: CallTimes,
    /// From asking for `/user/events` with a cursor since which nothing has happened until `ready`, over a new connection.
    pub ready: CallTimes,
}

/// Calls of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CallTimes {
    /// How long they took, in milliseconds.
    pub ms: Percentiles,
    /// SQL statements of the gateways for each, including those that they run without any call; `None` if they were not counted.
    pub statements: Option<f64>,
}

impl CallTimes {
    /// From the times of all calls, and how many statements there were meanwhile.
    pub(crate) fn new(latencies: &Latencies, statements: Option<usize>) -> Result<Self> {
        let ms = latencies.percentiles().ok_or_else(|| Failure::new("there was no call"))?;
        let statements = statements.and_then(|statements| ratio(as_f64(statements as u64), as_f64(ms.samples)));
        Ok(Self { ms, statements })
    }
}
