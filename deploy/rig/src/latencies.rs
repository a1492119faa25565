//! Histogram of measured times, precise to three digits, and its percentiles.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that is distinguished from longer ones.
const LONGEST_US: u64 = 120_000_000;

/// Histogram of times in microseconds, from 1 µs to 120 s.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

/// Percentiles of measured times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Number of measured times.
    pub samples: u64,
    /// Half of the times are at most this long.
    pub p50: f64,
    /// Nine of ten times are at most this long.
    pub p90: f64,
    /// 99 of 100 times are at most this long.
    pub p99: f64,
    /// 999 of 1,000 times are at most this long.
    pub p999: f64,
    /// The longest time.
    pub max: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds and the number of digits are valid"))
    }
}

impl Latencies {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a time; a time above 120 s counts as 120 s.
    pub fn record(&mut self, micros: u64) {
        self.0.saturating_record(micros);
    }

    /// The histogram of the times of all `parts`.
    #[must_use]
    pub fn merged<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::new();
        for part in parts {
            all.0.add(&part.0).expect("all have the same bounds");
        }
        all
    }

    /// The percentiles; `None` if nothing was measured.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile: f64| milliseconds(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            samples: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.0.max()),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "two minutes in microseconds are far below 2^52"
)]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_percentiles_cover_all_parts() {
        let (mut one, mut other) = (Latencies::new(), Latencies::new());
        for number in 1..=1_000 {
            if number % 2 == 0 { &mut one } else { &mut other }.record(number * 1_000);
        }
        let merged = Latencies::merged([&one, &other].into_iter()).percentiles().unwrap();
        assert_eq!(merged.samples, 1_000);
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected / 500.0;
        for (value, expected) in [
            (merged.p50, 500.0),
            (merged.p90, 900.0),
            (merged.p99, 990.0),
            (merged.p999, 999.0),
            (merged.max, 1_000.0),
        ] {
            assert!(near(value, expected), "{value} is not {expected}");
        }
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        assert_eq!(Latencies::new().percentiles(), None);
    }
}
