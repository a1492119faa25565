//! The clock of a run, and the processor time of a thread.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Counts from the beginning of the run. Posts carry its time, so that readers can measure how long a message took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Microseconds since the beginning.
    pub(crate) fn micros(self) -> u64 {
        self.at(Instant::now())
    }

    /// Microseconds from the beginning to `moment`; 0 if `moment` is before it.
    pub(crate) fn at(self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// Processor time that the calling thread has used, in microseconds.
pub(crate) fn thread_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1_000).unwrap_or(0)
}
