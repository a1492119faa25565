//! The reaction to failed accepts: pauses that grow, and one line in the log for the whole run of failures.

use std::io;
use std::time::Duration;

use shared::telemetry::FailureSeries;
use tracing::{info, warn};

/// A run of failed accepts: logged at its start and its end, slower with every failure.
///
/// Running out of file descriptors (EMFILE, ENFILE) is the one that matters: the waiting connection stays in the
/// kernel's queue, so accept fails again at once and a loop without a pause takes a whole core.
#[derive(Debug, Default)]
pub(super) struct AcceptFailures {
    series: FailureSeries,
    /// Failures since the last accept that worked.
    count: u64,
    /// The pause after the last failure.
    pause: Duration,
}

impl AcceptFailures {
    const SHORTEST: Duration = Duration::from_millis(5);
    /// The longest that a new client waits after descriptors have become free again.
    const LONGEST: Duration = Duration::from_secs(1);

    /// Counts a failure and returns how long to wait before the next accept.
    ///
    /// The failure of a single connection that ended while it was in the queue is not a reason to wait.
    pub(super) fn on_failure(&mut self, error: &io::Error) -> Duration {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return Duration::ZERO;
        }
        if self.series.failed() {
            warn!(%error, "accepting connections fails");
        }
        self.count += 1;
        self.pause = (self.pause * 2).clamp(Self::SHORTEST, Self::LONGEST);
        self.pause
    }

    /// Ends the run, because an accept worked.
    pub(super) fn on_success(&mut self) {
        if self.series.recovered() {
            info!(accept.failures = self.count, "accepting connections works again");
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_accepts_slow_down_to_one_a_second_and_recover() {
        let full = io::Error::from_raw_os_error(24);
        let mut failures = AcceptFailures::default();
        let pauses: Vec<_> = (0..10).map(|_| failures.on_failure(&full).as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        failures.on_success();
        assert_eq!(failures.on_failure(&full), Duration::from_millis(5));
    }

    #[test]
    fn a_client_that_left_the_queue_slows_nobody_down() {
        let mut failures = AcceptFailures::default();
        assert_eq!(failures.on_failure(&io::ErrorKind::ConnectionAborted.into()), Duration::ZERO);
    }
}
