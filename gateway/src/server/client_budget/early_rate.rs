//! How fast an address may send before it has shown a token, by the generic cell rate algorithm (ITU-T I.371).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For how long an address may be ahead of its rate.
const BURST: Duration = Duration::from_secs(1);

/// How long one read waits at most, and so also that of a neighbour behind the same address: well within the deadlines of
/// headers and of signs of life. Beyond it an address is read faster than its rate.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// The early bytes of one address.
#[derive(Debug, Default)]
pub(super) struct EarlyRate {
    /// When everything that was read is paid for, in microseconds after the budgets began.
    paid_at: AtomicU64,
}

impl EarlyRate {
    /// Counts `bytes` at `now`, of which `per_s` are allowed a second; returns how long to wait then.
    pub(super) fn count(&self, bytes: u64, per_s: u64, now: Duration) -> Duration {
        let cost = bytes.saturating_mul(1_000_000) / per_s;
        let now = whole_micros(now);
        let latest = now + whole_micros(BURST + LONGEST_WAIT);
        let after = |paid_at: u64| paid_at.max(now).saturating_add(cost).min(latest);
        let before = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| Some(after(paid_at)));
        let (Ok(before) | Err(before)) = before;
        Duration::from_micros(after(before).saturating_sub(now)).saturating_sub(BURST)
    }

    /// Whether everything that was read is paid for at `now`.
    pub(super) fn is_paid(&self, now: Duration) -> bool {
        self.paid_at.load(Ordering::Relaxed) <= whole_micros(now)
    }
}

fn whole_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_let_through_and_the_rest_waits() {
        let (rate, at) = (EarlyRate::default(), Duration::from_secs);
        assert_eq!(rate.count(1_000, 1_000, at(5)), Duration::ZERO);
        assert_eq!(rate.count(2_000, 1_000, at(5)), at(2));
        assert_eq!(rate.count(1_000, 1_000, at(7)), at(1), "two of the three seconds have passed");
        assert_eq!(rate.count(u64::MAX, 1_000, at(7)), LONGEST_WAIT);
        assert!(!rate.is_paid(at(10)) && rate.is_paid(at(11)));
    }
}
