//! How current it is what this gateway remembers of sessions, rooms and members.
//!
//! Caches are no truth: another gateway may have ended what they hold. What they hold is trusted for [`TRUSTED_FOR`] after
//! it was last proved that nothing has ended which this gateway does not know: by a look into SQL, or by an answer of Redis
//! on the connection on which removals are heard, which comes after all that was published before. Both count from the
//! moment in which the question was asked. Whoever ends something waits as long with their answer unless all gateways say
//! that they know: see [`crate::control_channel`]. So what an answer said was over is over everywhere, also at a gateway that was
//! paused: by the monotonic clock, which goes on meanwhile, its knowledge is too old when it wakes up.
//!
//! While nobody could tell this gateway, since no connection listens, everything is asked of SQL.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long what was known is trusted. A removal is promised to take effect everywhere within this time.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// When what is remembered was last proved to be current.
pub(crate) struct Freshness {
    origin: Instant,
    /// Until when it is trusted, in microseconds after `origin`.
    trusted_until: AtomicU64,
    hearing: Mutex<Hearing>,
    /// The looks into SQL, one at a time.
    pub(crate) checks: tokio::sync::Mutex<RevocationChecks>,
    /// Open streams are to be compared with SQL.
    pub(crate) must_compare: AtomicBool,
}

/// Who listens to removals.
struct Hearing {
    /// Connections on which they are heard.
    connections: usize,
    /// When one of them came or went. What was known before may lack what was said meanwhile.
    changed: Instant,
}

/// What the looks into SQL have found.
#[derive(Default)]
pub(crate) struct RevocationChecks {
    /// The number of the last removal that was acted on.
    pub(crate) known: Option<i64>,
    /// When the last look began, and whether SQL answered.
    pub(crate) last: Option<(Instant, bool)>,
}

impl Freshness {
    /// Nothing is known yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            trusted_until: AtomicU64::new(0),
            hearing: Mutex::new(Hearing {
                connections: 0,
                changed: now,
            }),
            checks: tokio::sync::Mutex::default(),
            must_compare: AtomicBool::new(false),
        }
    }

    /// Whether what is remembered can be trusted at `now`.
    pub(crate) fn is_trusted(&self, now: Instant) -> bool {
        self.micros(now) < self.trusted_until.load(Ordering::Acquire)
    }

    /// All that had ended when this was asked, at `asked`, is known.
    pub(crate) fn confirm(&self, asked: Instant) {
        let hearing = self.hearing();
        if hearing.connections > 0 && asked >= hearing.changed {
            self.trusted_until.fetch_max(self.micros(asked + TRUSTED_FOR), Ordering::AcqRel);
        }
    }

    /// From now on removals are heard on one more connection.
    pub(crate) fn subscription_restored(&self, now: Instant) {
        self.change(now, |connections| connections + 1);
    }

    /// From now on removals are heard on one connection less.
    pub(crate) fn subscription_lost(&self, now: Instant) {
        self.change(now, |connections| connections.saturating_sub(1));
    }

    fn change(&self, now: Instant, count: impl FnOnce(usize) -> usize) {
        let mut hearing = self.hearing();
        hearing.connections = count(hearing.connections);
        hearing.changed = now;
        self.trusted_until.store(0, Ordering::Release);
    }

    fn micros(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        // A panic cannot leave it half changed.
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_is_trusted_for_a_second_after_the_question() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let freshness = Freshness::new(began);
        assert!(!freshness.is_trusted(at(1)));
        freshness.subscription_restored(at(10));
        freshness.confirm(at(20));
        assert!(freshness.is_trusted(at(1_019)));
        // As after a pause of the process.
        assert!(!freshness.is_trusted(at(1_020)));
        freshness.confirm(at(900));
        freshness.confirm(at(500));
        assert!(freshness.is_trusted(at(1_899)));
    }

    #[test]
    fn who_cannot_be_told_trusts_nothing() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let freshness = Freshness::new(began);
        freshness.confirm(at(10));
        assert!(!freshness.is_trusted(at(11)), "nobody listens");
        freshness.subscription_restored(at(20));
        freshness.confirm(at(19));
        assert!(!freshness.is_trusted(at(21)), "asked before anybody listened");
        freshness.confirm(at(30));
        assert!(freshness.is_trusted(at(31)));
        freshness.subscription_lost(at(40));
        freshness.confirm(at(50));
        assert!(!freshness.is_trusted(at(51)), "nobody listens any more");
    }
}
