//! Freshness of the caches of sessions, rooms and members.
//!
//! Another gateway may have ended what a cache holds. Caches are trusted for [`TRUSTED_FOR`] after it was last proved that no
//! revocation is unknown here: by a check of the revocation log in SQL, or by an answer of Redis on the connection that
//! receives revocations, which comes after all that was published before it. Both count from the moment in which the question
//! was asked. A gateway that ends something waits as long with its answer unless all gateways acknowledge: see
//! [`crate::control_channel`]. So what an answer said was over is over everywhere, also at a gateway that was paused: by the
//! monotonic clock, which goes on meanwhile, its caches are too old when it runs again.
//!
//! While no connection receives revocations, everything is asked of SQL.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long caches are trusted after a proof. A revocation is promised to take effect everywhere within this time.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// When the caches were last proved to be current.
pub(crate) struct Freshness {
    started: Instant,
    /// Until when they are trusted, in microseconds after `started`.
    trusted_until: AtomicU64,
    subscriptions: Mutex<Subscriptions>,
}

/// The connections that receive revocations.
struct Subscriptions {
    /// How many there are.
    count: usize,
    /// When one of them came or went. A proof from before may lack revocations that were published in between.
    changed: Instant,
}

impl Freshness {
    /// Caches that are not trusted yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            trusted_until: AtomicU64::new(0),
            subscriptions: Mutex::new(Subscriptions { count: 0, changed: now }),
        }
    }

    /// Whether the caches can be trusted at `now`.
    pub(crate) fn is_trusted(&self, now: Instant) -> bool {
        self.micros(now) < self.trusted_until.load(Ordering::Acquire)
    }

    /// Notes that every revocation from before `asked` is known here.
    pub(crate) fn confirm(&self, asked: Instant) {
        let subscriptions = self.subscriptions.lock();
        if subscriptions.count > 0 && asked >= subscriptions.changed {
            self.trusted_until.fetch_max(self.micros(asked + TRUSTED_FOR), Ordering::AcqRel);
        }
    }

    /// Notes that one more connection receives revocations.
    pub(crate) fn subscription_restored(&self, now: Instant) {
        self.change(now, |count| count + 1);
    }

    /// Notes that one connection less receives revocations.
    pub(crate) fn subscription_lost(&self, now: Instant) {
        self.change(now, |count| count.saturating_sub(1));
    }

    fn change(&self, now: Instant, change: impl FnOnce(usize) -> usize) {
        let mut subscriptions = self.subscriptions.lock();
        subscriptions.count = change(subscriptions.count);
        subscriptions.changed = now;
        self.trusted_until.store(0, Ordering::Release);
    }

    fn micros(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_trusted_for_a_second_after_the_question() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let freshness = Freshness::new(began);
        assert!(!freshness.is_trusted(at(1)));
        freshness.subscription_restored(at(10));
        freshness.confirm(at(20));
        assert!(freshness.is_trusted(at(1_019)));
        // As it is after a pause of the process.
        assert!(!freshness.is_trusted(at(1_020)));
        freshness.confirm(at(900));
        freshness.confirm(at(500));
        assert!(freshness.is_trusted(at(1_899)));
    }

    #[test]
    fn without_a_subscription_nothing_is_trusted() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let freshness = Freshness::new(began);
        freshness.confirm(at(10));
        assert!(!freshness.is_trusted(at(11)), "no connection receives revocations");
        freshness.subscription_restored(at(20));
        freshness.confirm(at(19));
        assert!(!freshness.is_trusted(at(21)), "asked before the subscription");
        freshness.confirm(at(30));
        assert!(freshness.is_trusted(at(31)));
        freshness.subscription_lost(at(40));
        freshness.confirm(at(50));
        assert!(!freshness.is_trusted(at(51)), "the subscription is lost");
    }
}
