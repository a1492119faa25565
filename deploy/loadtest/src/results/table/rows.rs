//! Rows of a table of text, and how numbers are written in it.

use std::fmt::Write as _;

use rig::Percentiles;

/// The rows of a table, each a name and a value.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) text: String,
}

impl Rows {
    /// Adds a row.
    pub(super) fn add(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) {
        let _ = writeln!(self.text, "{:<20} {}", name.as_ref(), value.as_ref());
    }
}

/// The percentiles of some times, in one line.
pub(super) fn percentiles(times: &Percentiles) -> String {
    let Percentiles {
        samples,
        p50,
        p90,
        p99,
        p999,
        max,
    } = times;
    format!(
        "p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2}  ({} measured)",
        grouped(*samples)
    )
}

/// Writes 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and small against 2^64"
)]
pub(super) fn grouped_f64(number: f64) -> String {
    grouped(number.round() as u64)
}

#[expect(clippy::cast_precision_loss, reason = "memory in KiB is far below 2^52")]
pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1_024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
