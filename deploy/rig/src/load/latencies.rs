//! Times, kept in buckets of three digits.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that is told apart from longer ones.
const LONGEST_US: u64 = 120_000_000;

/// Many times, in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is told of them, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub samples: u64,
    /// Half of them took at most so long.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// All.
    pub max: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds and the number of digits are valid"))
    }

    /// Notes a time; what is longer than the longest counts as that.
    pub(crate) fn record(&mut self, micros: u64) {
        self.0.saturating_record(micros);
    }

    /// Those of all parts.
    pub(super) fn merged<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::new();
        for part in parts {
            all.0.add(&part.0).expect("all have the same bounds");
        }
        all
    }

    /// `None` if nothing was measured.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
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
    fn percentiles_are_those_of_all_parts() {
        let (mut one, mut other) = (Latencies::new(), Latencies::new());
        for number in 1..=1_000 {
            if number % 2 == 0 { &mut one } else { &mut other }.record(number * 1_000);
        }
        let told = Latencies::merged([&one, &other].into_iter()).percentiles().unwrap();
        assert_eq!(told.samples, 1_000);
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected / 500.0;
        for (value, expected) in [
            (told.p50, 500.0),
            (told.p90, 900.0),
            (told.p99, 990.0),
            (told.p999, 999.0),
            (told.max, 1_000.0),
        ] {
            assert!(near(value, expected), "{value} is not {expected}");
        }
    }

    #[test]
    fn of_nothing_there_are_none() {
        assert_eq!(Latencies::new().percentiles(), None);
    }
}
