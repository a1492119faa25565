//! How a run controls its threads, and the counters that they publish. Threads look at the first and publish the second
//! every few milliseconds, so that nothing on the hot paths is shared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::client::order_check::OrderViolations;

/// How often a thread looks at [`Control`] and publishes its counters.
pub(crate) const CONTROL_INTERVAL: Duration = Duration::from_millis(5);

/// What all threads of a run are to do.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Stop at once.
    pub(crate) stop: AtomicBool,
    /// Streams with a smaller number may be opened.
    pub(crate) open_limit: AtomicUsize,
    /// Disconnect all streams and keep them disconnected.
    pub(crate) disconnect: AtomicBool,
    /// When streams were allowed to reconnect, in microseconds of the run's clock.
    pub(crate) reconnect_at_us: AtomicU64,
    /// The streams chosen to stall stop reading.
    pub(crate) stalling: AtomicBool,
    /// Number of the window whose latency is recorded, from 1; 0 between windows.
    pub(crate) window: AtomicUsize,
    /// Number of the check whether all streams have caught up, from 1; 0 for no check yet.
    pub(crate) catch_up_check: AtomicUsize,
    /// Messages of each room that the server has acknowledged.
    pub(crate) acknowledged: Vec<AtomicU64>,
    /// How many messages the slowest sampled stream of each reader thread is behind its room.
    pub(crate) lags: Vec<AtomicU64>,
}

impl Control {
    /// Control that lets threads do nothing yet.
    pub(crate) fn new(rooms: usize, threads: usize) -> Self {
        let zeros = |count: usize| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self {
            acknowledged: zeros(rooms),
            lags: zeros(threads),
            ..Self::default()
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn acknowledged(&self, room: usize) -> u64 {
        self.acknowledged[room].load(Ordering::Relaxed)
    }

    /// How many messages the slowest of all sampled streams is behind its room.
    pub(crate) fn lag(&self) -> u64 {
        self.lags.iter().map(|lag| lag.load(Ordering::Relaxed)).max().unwrap_or(0)
    }
}

/// Counters of the streams of a reader thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReaderCounters {
    /// Streams that are open.
    pub(crate) open: usize,
    /// Messages that came.
    pub(crate) deliveries: u64,
    /// Typing events that came.
    pub(crate) typing_events: u64,
    /// Violations of order on the streams.
    pub(crate) violations: OrderViolations,
    /// Streams that the server ended and that were opened again.
    pub(crate) reconnects: u64,
    /// Streams that were refused too often and are given up.
    pub(crate) given_up: usize,
    /// The first refusal.
    pub(crate) refusal: Option<String>,
    /// Processor time of the busiest thread, in microseconds.
    pub(crate) busy_us: u64,
    /// The number of the check that the count is of, and the streams that had not caught up.
    pub(crate) behind: (usize, usize),
}

impl ReaderCounters {
    /// The counters of all threads together.
    pub(crate) fn sum(parts: &[Self]) -> Self {
        parts.iter().fold(Self::default(), |mut sum, part| {
            sum.open += part.open;
            sum.deliveries += part.deliveries;
            sum.typing_events += part.typing_events;
            sum.violations.missing += part.violations.missing;
            sum.violations.doubled += part.violations.doubled;
            sum.violations.misplaced += part.violations.misplaced;
            sum.violations.resets += part.violations.resets;
            sum.reconnects += part.reconnects;
            sum.given_up += part.given_up;
            sum.busy_us = sum.busy_us.max(part.busy_us);
            sum.refusal = sum.refusal.or_else(|| part.refusal.clone());
            sum
        })
    }
}

/// Counters of a request thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestCounters {
    /// Requests that succeeded.
    pub(crate) answered: u64,
    /// Complete responses by status code.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Requests without a complete response.
    pub(crate) broken: u64,
    /// Processor time of the thread, in microseconds.
    pub(crate) busy_us: u64,
    /// The first refusal.
    pub(crate) refusal: Option<String>,
}

impl RequestCounters {
    /// Complete responses since `earlier`, by status code.
    pub(crate) fn statuses_since(&self, earlier: &Self) -> BTreeMap<u16, u64> {
        let before = |status| earlier.statuses.get(status).copied().unwrap_or(0);
        let since = self.statuses.iter().map(|(status, count)| (*status, count - before(status)));
        since.filter(|(_, count)| *count > 0).collect()
    }
}

/// The latest counters of a thread; the lock is held only for a copy.
#[derive(Debug, Default)]
pub(crate) struct Published<T>(Mutex<T>);

impl<T: Clone> Published<T> {
    pub(crate) fn publish(&self, latest: &T) {
        self.0.lock().clone_from(latest);
    }

    pub(crate) fn snapshot(&self) -> T {
        self.0.lock().clone()
    }
}
