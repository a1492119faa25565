//! Damage of history: entries that were there and are missing.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::domain::{RoomId, Seq};
use shared::telemetry::LogEvent;

static DAMAGED: LogEvent =
    LogEvent::outage("history_damaged", "history lacks an entry that it had, and readers are told to load it anew");

/// Holes that are remembered as reported. Past so many, all are forgotten and reported again.
const REPORTED: usize = 10_000;

/// Reports holes in history to the operator: each once, whoever meets it and however often. Clones share what is reported.
#[derive(Clone, Default)]
pub(super) struct DamageReports(Arc<Mutex<HashSet<(RoomId, Seq)>>>);

impl DamageReports {
    /// Reports that `room` lacks `seq`, and perhaps others after it.
    pub(super) fn report(&self, room: RoomId, seq: Seq) {
        let is_new = {
            let mut reported = self.0.lock();
            if reported.len() >= REPORTED {
                reported.clear();
            }
            reported.insert((room, seq))
        };
        if is_new {
            DAMAGED
                .report(format_args!("room {}", room.0), format_args!("entry {} of room {} is missing", seq.0, room.0));
        }
    }
}
