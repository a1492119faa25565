//! What a stream waits for with the clock: when it looks again although nothing has moved.

use std::time::{Duration, Instant};

/// Pause after SQL could not be read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often a horizon is looked for while rooms are held for one.
const HORIZON_POLL: Duration = Duration::from_millis(50);

/// The pauses of a stream, each with the time at which it ends. Those that are over are forgotten, so that nobody waits for a time that has
/// passed.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// Nothing is fetched: a read failed.
    fetch: Option<Instant>,
    /// No missed entries are sent: the rate of the user requires it.
    replay: Option<Instant>,
    /// A horizon is looked for again, for which rooms are held.
    horizon: Option<Instant>,
}

impl Pauses {
    /// Forgets the pauses that are over at `now`.
    pub(super) fn end(&mut self, now: Instant) {
        for pause in [&mut self.fetch, &mut self.replay, &mut self.horizon] {
            *pause = pause.filter(|time| *time > now);
        }
    }

    /// When the first of them ends.
    pub(super) fn first_end(&self) -> Option<Instant> {
        [self.fetch, self.replay, self.horizon].into_iter().flatten().min()
    }

    /// Whether a read may begin.
    pub(super) fn may_fetch(&self) -> bool {
        self.fetch.is_none()
    }

    /// Pauses reads: one has failed.
    pub(super) fn retry_fetch(&mut self, now: Instant) {
        self.fetch = Some(now + RETRY_PAUSE);
    }

    /// Whether missed entries may be sent.
    pub(super) fn may_replay(&self) -> bool {
        self.replay.is_none()
    }

    /// Pauses missed entries for `delay`.
    pub(super) fn delay_replay(&mut self, now: Instant, delay: Duration) {
        self.replay = Some(now + delay);
    }

    /// Looks for a horizon again soon, for which rooms are held.
    pub(super) fn poll_horizon(&mut self, now: Instant) {
        self.horizon.get_or_insert(now + HORIZON_POLL);
    }
}
