//! When and on which machine a part was measured.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::machine::Machine;

/// When and where a part was measured. It is kept with each part, since a report may hold parts of several runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Provenance {
    /// When the measurement began, as RFC 3339 without fractions; empty if a report of an older version does not say.
    #[serde(default)]
    pub measured_on: String,
    /// The machine; `None` if a report of an older version does not say.
    #[serde(default)]
    pub machine: Option<Machine>,
}

impl Provenance {
    /// This moment and this machine.
    pub(super) fn here_and_now() -> Self {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self {
            measured_on: now.format(&Rfc3339).unwrap_or_default(),
            machine: Some(Machine::here()),
        }
    }

    /// The day of the measurement, such as `2026-11-26`; empty if it is not known.
    pub(super) fn day(&self) -> &str {
        self.measured_on.get(..10).unwrap_or_default()
    }
}
