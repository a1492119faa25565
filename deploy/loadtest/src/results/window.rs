//! One window: a stretch of time under load in which everything is measured.

use rig::Percentiles;
use serde::{Deserialize, Serialize};

use crate::results::process_cost::{ProcessCpu, as_f64, ratio};
use crate::results::process_usage::ProcessUsage;
use crate::results::typing::TypingCalls;

/// A rate is kept if the requests that succeeded differ from it by at most this share, or by at most so many requests.
const RATE_TOLERANCE: f64 = 0.02;
const REQUESTS_TOLERANCE: f64 = 2.0;

/// What was measured in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Percent of the streams that did not read.
    pub stalled_percent: usize,
    /// Messages that came, over all streams.
    pub deliveries: u64,
    /// Messages that came in a second.
    pub deliveries_per_s: f64,
    /// Requests that succeeded: posts, or pages of history.
    pub requests: u64,
    /// Requests that succeeded in a second.
    pub requests_per_s: f64,
    /// Times from post to event, in milliseconds, of the messages that arrived within the window.
    pub post_to_event_ms: Option<Percentiles>,
    /// Times from request to response, in milliseconds.
    pub answer_ms: Option<Percentiles>,
    /// Processor time and memory of each process.
    pub processes: Vec<ProcessCpu>,
    /// SQL statements of the gateways in a second, if they were counted.
    #[serde(default)]
    pub statements_per_s: Option<f64>,
    /// Share of the window in which the busiest reader thread of this tool was busy: near 1, the tool limits the
    /// figures. On a machine whose cores are all busy, the thread may get less than it needs long before.
    pub reader_busy: f64,
    /// Share of the window in which the busiest thread that sends requests was busy.
    pub caller_busy: f64,
    /// Typing events that came, over all streams.
    #[serde(default)]
    pub typing_events: u64,
    /// The typing calls of users; `None` for a window without.
    #[serde(default)]
    pub typing: Option<TypingCalls>,
}

impl Window {
    /// True if so many requests a second succeeded; a few responses may fall to either side of the window.
    pub(super) fn keeps_rate(&self, per_s: f64) -> bool {
        is_kept(self.requests, per_s * self.seconds)
    }

    /// True if so many typing calls a second succeeded, or the window has none.
    pub(super) fn keeps_typing_rate(&self, per_s: f64) -> bool {
        self.typing.as_ref().is_none_or(|calls| is_kept(calls.succeeded(), per_s * self.seconds))
    }

    /// 99 of 100 messages took at most so many milliseconds from post to event.
    #[must_use]
    pub fn p99_ms(&self) -> Option<f64> {
        self.post_to_event_ms.map(|times| times.p99)
    }

    /// A window of so many seconds, from the counts in it and from the usage of the processes at its begin and end.
    pub(crate) fn new(
        seconds: f64,
        deliveries: u64,
        requests: u64,
        before: &[ProcessUsage],
        after: &[ProcessUsage],
    ) -> Self {
        Self {
            seconds,
            stalled_percent: 0,
            deliveries,
            deliveries_per_s: ratio(as_f64(deliveries), seconds).unwrap_or(0.0),
            requests,
            requests_per_s: ratio(as_f64(requests), seconds).unwrap_or(0.0),
            post_to_event_ms: None,
            answer_ms: None,
            processes: ProcessCpu::between(before, after, deliveries, requests),
            statements_per_s: None,
            reader_busy: 0.0,
            caller_busy: 0.0,
            typing_events: 0,
            typing: None,
        }
    }
}

/// True if so many requests are nearly as many as were asked for.
fn is_kept(requests: u64, asked: f64) -> bool {
    (as_f64(requests) - asked).abs() <= (asked * RATE_TOLERANCE).max(REQUESTS_TOLERANCE)
}
