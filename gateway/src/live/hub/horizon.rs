//! Horizon: the position up to which every open feed knows of everything that is stored.
//!
//! A stream of many rooms tells its client, in one number, up to where it has sent everything. Commits of different partitions
//! end in another order than the one in which they took their positions, and an event may be lost. So a position becomes the
//! horizon in three steps:
//!
//! 1. A sample of SQL says which position was taken last.
//! 2. The same sample or a later one confirms that every transaction with a position up to there has ended.
//! 3. The feeds are compared with SQL, by a comparison that begins after that. A feed that is opened meanwhile reads its head
//!    later still.
//!
//! From then on [`Feed::known_head`](crate::live::feed::Feed::known_head) of each open feed covers every entry of its room up to
//! the position. While nobody uses the horizon, SQL is not asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::domain::Position;
use shared::storage::HorizonSample;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};
use tracing::warn;

use super::Hub;

/// How often it is sampled while somebody uses it.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Shortest time between two samples, when one is wanted at once or has to be confirmed.
const SAMPLE_AFTER: Duration = Duration::from_millis(50);

/// How old a horizon may be for somebody who begins with it: what moved since is named in their cursor.
const RECENT: Duration = Duration::from_secs(2);

/// How long a more recent one is waited for, and how often it is looked for meanwhile.
const RECENT_WAIT: Duration = Duration::from_millis(250);
const RECENT_POLL: Duration = Duration::from_millis(5);

/// Samples that are taken early to confirm one. A transaction that is open for longer, as that of a backup may be, is not waited
/// for like this.
const EARLY_SAMPLES: u32 = 5;

/// Samples that wait to be confirmed. When there are so many, the last one gives way to the next.
const MAX_PENDING: usize = 16;

/// A position, and how old it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The known head of each open feed covers every entry of its room up to here, and nothing is committed below it any more.
    pub position: Position,
    /// Whatever was committed before this time has at most this position.
    pub sampled_at: Instant,
}

/// When it is sampled, what is not confirmed yet, and the horizon.
#[derive(Default)]
pub(super) struct HorizonClock {
    users: AtomicUsize,
    state: Mutex<State>,
    /// There is a first user, or a sample is wanted at once.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// How often positions may have gone back. What was sampled before that belongs to a history that is gone.
    resets: u64,
    pending: VecDeque<(HorizonSample, Instant)>,
    published: Option<Horizon>,
    /// When the last sample was taken.
    sampled: Option<Instant>,
    /// A sample is wanted that is taken after now.
    is_wanted: bool,
    /// Samples that may still be taken early to confirm the last one that was not.
    early_left: u32,
}

/// A sample that is about to be taken.
#[derive(Clone, Copy)]
pub(super) struct Sampling {
    resets: u64,
    at: Instant,
    /// It is taken early, to confirm an earlier one.
    confirms: bool,
}

impl State {
    /// When the next sample is due; at once if there was none.
    fn due(&self) -> Option<Instant> {
        let is_early = self.is_wanted || (!self.pending.is_empty() && self.early_left > 0);
        Some(self.sampled? + if is_early { SAMPLE_AFTER } else { SAMPLE_EVERY })
    }
}

impl HorizonClock {
    /// Waits until a sample is due. Nothing is lost if the wait is dropped.
    pub(super) async fn due(&self) {
        loop {
            if self.users.load(Ordering::Acquire) == 0 {
                self.changed.notified().await;
                continue;
            }
            let Some(due) = self.state.lock().due() else {
                return;
            };
            tokio::select! {
                () = sleep_until(due.into()) => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Begins a sample at `now`.
    fn begin(&self, now: Instant) -> Sampling {
        let mut state = self.state.lock();
        let is_early = state.sampled.is_some_and(|sampled| now.duration_since(sampled) < SAMPLE_EVERY);
        let confirms = is_early && !state.is_wanted;
        state.early_left = if confirms {
            state.early_left.saturating_sub(1)
        } else {
            EARLY_SAMPLES
        };
        state.sampled = Some(now);
        state.is_wanted = false;
        Sampling {
            resets: state.resets,
            at: now,
            confirms,
        }
    }

    /// Adds a sample, and returns the highest position that it confirms, if it confirms one. It may confirm itself: on SQLite always, on
    /// Postgres if its own transaction is the only one that may be open.
    fn confirm(&self, sampling: Sampling, sample: HorizonSample) -> Option<Horizon> {
        let mut state = self.state.lock();
        if state.resets != sampling.resets {
            return None;
        }
        if state.pending.len() >= MAX_PENDING {
            state.pending.pop_back();
        }
        state.pending.push_back((sample, sampling.at));
        let mut confirmed = None;
        // Ids of transactions grow from sample to sample.
        while let Some((earlier, at)) = state.pending.front().copied()
            && earlier.is_confirmed_by(&sample)
        {
            state.pending.pop_front();
            confirmed = Some(Horizon {
                position: earlier.last,
                sampled_at: at,
            });
        }
        if confirmed.is_some() && sampling.confirms {
            // While others write, this one waits for the next in its time. Else each would hurry the next.
            state.early_left = 0;
        }
        confirmed
    }

    /// Makes a confirmed position the horizon: feeds were compared since.
    fn publish(&self, sampling: Sampling, horizon: Horizon) {
        let mut state = self.state.lock();
        if state.resets == sampling.resets {
            state.published = Some(horizon);
        }
    }

    /// Forgets the horizon and everything sampled: positions may have gone back.
    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        *state = State {
            resets: state.resets + 1,
            ..State::default()
        };
    }
}

/// Keeps the horizon up to date for as long as it is held.
pub struct HorizonUse(Hub);

impl Drop for HorizonUse {
    fn drop(&mut self) {
        self.0.shared.horizon.users.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Hub {
    /// Keeps the horizon up to date from now on, until what is returned is dropped.
    #[must_use]
    pub fn use_horizon(&self) -> HorizonUse {
        let horizon = &self.shared.horizon;
        if horizon.users.fetch_add(1, Ordering::AcqRel) == 0 {
            horizon.changed.notify_one();
        }
        HorizonUse(self.clone())
    }

    /// The horizon as it was found last; `None` before the first time, and after positions may have gone back. It is as old as it
    /// says: while SQL does not answer, or a transaction stays open, it does not move.
    #[must_use]
    pub fn horizon(&self) -> Option<Horizon> {
        self.shared.horizon.state.lock().published
    }

    /// The position of a recent horizon, if there is one soon; else that of the one there is, or the position before the first entry. Cursors
    /// that begin with an old one are longer for a while.
    pub async fn recent_horizon(&self) -> Position {
        let began = Instant::now();
        loop {
            let horizon = self.horizon();
            let is_recent = horizon.is_some_and(|horizon| horizon.sampled_at.elapsed() <= RECENT);
            if is_recent || began.elapsed() >= RECENT_WAIT {
                return horizon.map_or(Position(0), |horizon| horizon.position);
            }
            self.want_horizon();
            sleep(RECENT_POLL).await;
        }
    }

    /// Has the horizon sampled soon, for somebody who uses it.
    pub fn want_horizon(&self) {
        let horizon = &self.shared.horizon;
        let was_wanted = std::mem::replace(&mut horizon.state.lock().is_wanted, true);
        if !was_wanted {
            horizon.changed.notify_one();
        }
    }

    /// Samples the horizon, and publishes what the sample confirms once the feeds are compared. True if they were.
    pub(in crate::live) async fn update_horizon(&self) -> bool {
        let horizon = &self.shared.horizon;
        let sampling = horizon.begin(Instant::now());
        let sample = match self.shared.store.horizon_sample().await {
            Ok(sample) => sample,
            Err(error) => {
                warn!(error = %error, "cannot read which position was taken last: {error}");
                return false;
            }
        };
        let Some(confirmed) = horizon.confirm(sampling, sample) else {
            return false;
        };
        let is_compared = self.find_missing().await;
        if is_compared {
            horizon.publish(sampling, confirmed);
        }
        is_compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(last: i64, next_transaction: i64, oldest_transaction: i64) -> HorizonSample {
        HorizonSample {
            last: Position(last),
            next_transaction,
            oldest_transaction,
        }
    }

    /// Adds a sample, and returns the position that it confirms.
    fn add(clock: &HorizonClock, sample: HorizonSample) -> Option<i64> {
        let sampling = clock.begin(Instant::now());
        clock.confirm(sampling, sample).map(|horizon| horizon.position.0)
    }

    #[test]
    fn a_position_is_confirmed_when_its_transactions_have_ended() {
        let clock = HorizonClock::default();
        assert_eq!(add(&clock, sample(10, 100, 95)), None);
        assert_eq!(add(&clock, sample(12, 103, 99)), None);
        assert_eq!(add(&clock, sample(15, 110, 104)), Some(12));
        assert_eq!(add(&clock, sample(15, 110, 110)), Some(15));
        // SQLite: what is committed is all there is.
        let clock = HorizonClock::default();
        assert_eq!(add(&clock, sample(7, 0, 0)), Some(7));
    }

    #[test]
    fn samples_that_wait_are_bounded() {
        let clock = HorizonClock::default();
        (0..1_000).for_each(|number| assert_eq!(add(&clock, sample(number, 100 + number, 50)), None));
        assert_eq!(clock.state.lock().pending.len(), MAX_PENDING);
        assert_eq!(add(&clock, sample(2_000, 3_000, 2_000)), Some(14), "the last one gave way");
    }

    #[test]
    fn a_sample_from_before_positions_went_back_does_not_count() {
        let clock = HorizonClock::default();
        let sampling = clock.begin(Instant::now());
        clock.reset();
        assert_eq!(clock.confirm(sampling, sample(7, 0, 0)), None);
        let horizon = Horizon {
            position: Position(7),
            sampled_at: Instant::now(),
        };
        clock.publish(sampling, horizon);
        assert_eq!(clock.state.lock().published, None);
    }

    #[test]
    fn an_open_transaction_is_waited_for_in_haste_for_a_while() {
        let (clock, mut now) = (HorizonClock::default(), Instant::now());
        let due = || clock.state.lock().due();
        assert_eq!(due(), None, "the first sample is due at once");
        for _ in 0..=EARLY_SAMPLES {
            assert!(due().is_none_or(|due| due == now + SAMPLE_AFTER));
            now = due().unwrap_or(now);
            let sampling = clock.begin(now);
            clock.confirm(sampling, sample(1, 100, 50));
        }
        assert_eq!(due(), Some(now + SAMPLE_EVERY));
        clock.state.lock().is_wanted = true;
        assert_eq!(due(), Some(now + SAMPLE_AFTER));
    }

    /// Postgres while others write all the time: a sample is confirmed by the next one, and never by itself.
    #[test]
    fn a_busy_database_is_asked_twice_in_each_period() {
        let (clock, began) = (HorizonClock::default(), Instant::now());
        let (mut now, mut samples, mut confirmed) = (began, 0, 0);
        while now < began + 10 * SAMPLE_EVERY {
            let sampling = clock.begin(now);
            samples += 1;
            let oldest = 100 + samples;
            confirmed += i64::from(clock.confirm(sampling, sample(7, oldest + 1, oldest)).is_some());
            let next = clock.state.lock().due();
            now = next.unwrap();
        }
        assert_eq!(samples - 1, confirmed, "all but the last are confirmed by the next");
        assert!((18..=20).contains(&samples), "{samples}");
    }
}
