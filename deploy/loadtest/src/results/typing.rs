//! The effect of typing on messages: windows with typing calls are compared with windows without.

use std::collections::BTreeMap;

use rig::{Latencies, Percentiles};
use serde::{Deserialize, Serialize};

use crate::results::process_cost::ratio;

/// The typing calls of one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypingCalls {
    /// Complete responses by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls without a complete response.
    pub broken: u64,
    /// Times from call to response, in milliseconds.
    pub answer_ms: Option<Percentiles>,
}

impl TypingCalls {
    /// Calls that succeeded.
    pub(super) fn succeeded(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }
}

/// Times from post to event, over all windows without typing calls, and over all with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypingEffect {
    /// Typing calls a second that the plan asks for, of all users together.
    pub asked_per_s: f64,
    /// Without typing calls, in milliseconds.
    pub without_ms: Percentiles,
    /// With typing calls of every user, in milliseconds.
    pub with_ms: Percentiles,
}

impl TypingEffect {
    /// From the times of the windows of each kind; `None` if no message came in one of them.
    pub(crate) fn new(asked_per_s: f64, without: &Latencies, with: &Latencies) -> Option<Self> {
        Some(Self {
            asked_per_s,
            without_ms: without.percentiles()?,
            with_ms: with.percentiles()?,
        })
    }

    /// The median with typing calls, divided by that without.
    #[must_use]
    pub fn p50_ratio(&self) -> Option<f64> {
        ratio(self.with_ms.p50, self.without_ms.p50)
    }

    /// The 99th percentile with typing calls, divided by that without.
    #[must_use]
    pub fn p99_ratio(&self) -> Option<f64> {
        ratio(self.with_ms.p99, self.without_ms.p99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_compare_windows_with_and_without_typing() {
        let times = |micros: &[u64]| {
            let mut latencies = Latencies::new();
            for time in micros {
                latencies.record(*time);
            }
            latencies
        };
        let effect = TypingEffect::new(500.0, &times(&[1_000, 1_000, 2_000]), &times(&[1_500, 1_500, 4_000])).unwrap();
        let rounded = |ratio: Option<f64>| ratio.map(|ratio| (ratio * 10.0).round());
        assert_eq!((rounded(effect.p50_ratio()), rounded(effect.p99_ratio())), (Some(15.0), Some(20.0)));
        assert_eq!(TypingEffect::new(500.0, &times(&[]), &times(&[1_000])), None);
    }

    #[test]
    fn only_calls_that_were_answered_well_succeeded() {
        let calls = TypingCalls {
            statuses: BTreeMap::from([(204, 7), (403, 2), (503, 1)]),
            broken: 1,
            answer_ms: None,
        };
        assert_eq!(calls.succeeded(), 7);
    }
}
