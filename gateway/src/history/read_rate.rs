//! Read rate: how fast a user may read history, in pages and on streams that missed messages.
//!
//! A client that comes back is sent what it missed as fast as it reads, up to a burst; after that at a rate, shared by all that
//! the user reads. Live messages are never held back, and wait for nobody's history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use parking_lot::Mutex;
use shared::domain::UserId;

/// The burst, in seconds of the rate: enough for a phone that was away from a busy room for an hour.
const BURST_S: f64 = 2.0;

/// How long the rate of a user is remembered after its last use, so that coming back does not begin a new burst.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// Users whose rate is remembered; past it those unused for longest begin with a new burst.
const REMEMBERED_USERS: u64 = 100_000;

/// The rates of all users. Clones share them.
#[derive(Clone)]
pub struct HistoryRates(Arc<Rates>);

struct Rates {
    /// Bytes a second; 0 for any number.
    per_s: f64,
    users: Cache<UserId, Arc<HistoryRate>>,
}

impl HistoryRates {
    /// Lets each user read `kib_per_s`; 0 means no limit.
    #[must_use]
    pub fn new(kib_per_s: u32) -> Self {
        Self(Arc::new(Rates {
            per_s: f64::from(kib_per_s) * 1024.0,
            users: Cache::builder().max_capacity(REMEMBERED_USERS).time_to_idle(REMEMBERED_FOR).build(),
        }))
    }

    /// The rate of `user`; `None` without a limit.
    ///
    /// It is looked up when there is something to read: a user who has missed nothing takes no memory here.
    #[must_use]
    pub fn of(&self, user: UserId) -> Option<Arc<HistoryRate>> {
        let Rates { per_s, users } = &*self.0;
        (*per_s > 0.0).then(|| users.get_with(user, || Arc::new(HistoryRate::new(*per_s, Instant::now()))))
    }
}

/// The rate of one user: a token bucket that fills with time. A read may leave a debt, since its size is known only after
/// it.
pub struct HistoryRate {
    per_s: f64,
    level: Mutex<Level>,
}

struct Level {
    bytes: f64,
    at: Instant,
}

impl HistoryRate {
    fn new(per_s: f64, now: Instant) -> Self {
        let level = Level {
            bytes: per_s * BURST_S,
            at: now,
        };
        Self {
            per_s,
            level: Mutex::new(level),
        }
    }

    /// How long the next read has to wait; `None` if it need not.
    pub(crate) fn delay(&self, now: Instant) -> Option<Duration> {
        let bytes = self.change(now, 0.0);
        (bytes <= 0.0).then(|| Duration::from_secs_f64((1.0 - bytes) / self.per_s))
    }

    /// Charges a read of `bytes`.
    pub(crate) fn charge(&self, bytes: usize, now: Instant) {
        // A segment of a stream has some 64 KiB, a page 1 MiB.
        self.change(now, f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)));
    }

    fn change(&self, now: Instant, taken: f64) -> f64 {
        let mut level = self.level.lock();
        let filled = now.saturating_duration_since(level.at).as_secs_f64() * self.per_s;
        level.bytes = (level.bytes + filled).min(self.per_s * BURST_S) - taken;
        level.at = level.at.max(now);
        level.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_reads_come_at_the_rate() {
        let began = Instant::now();
        let rate = HistoryRate::new(1_000.0, began);
        rate.charge(2_500, began);
        let wait = rate.delay(began).unwrap();
        assert!((0.5..0.51).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(rate.delay(began + wait).is_none());
        // The bucket fills up to the burst and no further.
        let later = began + Duration::from_hours(1);
        rate.charge(2_000, later);
        assert!(rate.delay(later).is_some());
    }

    #[test]
    fn each_user_has_one_rate_for_all_reads() {
        let rates = HistoryRates::new(1);
        let now = Instant::now();
        rates.of(UserId(1)).unwrap().charge(1 << 20, now);
        assert!(rates.of(UserId(1)).unwrap().delay(now).is_some());
        assert!(rates.of(UserId(2)).unwrap().delay(now).is_none());
        assert!(HistoryRates::new(0).of(UserId(1)).is_none());
    }
}
