//! What the threads of a run are told, and what they tell: both are looked at every few milliseconds, so that nothing on
//! the hot paths is shared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::order::Faults;

/// How often a thread looks at its orders and tells how far it is.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// What all threads of a run are to do now.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// End at once.
    pub(crate) stop: AtomicBool,
    /// Streams with a smaller number than this may be opened.
    pub(crate) may_open: AtomicUsize,
    /// All streams are cut and stay away.
    pub(crate) away: AtomicBool,
    /// When they were let back, in microseconds of the run's clock.
    pub(crate) returned: AtomicU64,
    /// Those who are to stall read nothing any more.
    pub(crate) stalling: AtomicBool,
    /// Number of the window whose latencies are kept, from 1; 0 between windows.
    pub(crate) window: AtomicUsize,
    /// Number of the judgement whether all have caught up, from 1; 0 for none yet.
    pub(crate) judgement: AtomicUsize,
    /// Messages that each room holds for certain.
    pub(crate) heads: Vec<AtomicU64>,
    /// How many messages the slowest of the sampled streams of each reading thread is behind its room.
    pub(crate) lags: Vec<AtomicU64>,
}

impl Orders {
    /// Orders to do nothing yet.
    pub(crate) fn new(rooms: usize, threads: usize) -> Self {
        let zeros = |count: usize| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self {
            heads: zeros(rooms),
            lags: zeros(threads),
            ..Self::default()
        }
    }

    pub(crate) fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn head(&self, room: usize) -> u64 {
        self.heads[room].load(Ordering::Relaxed)
    }

    /// How many messages the slowest of all sampled streams is behind its room.
    pub(crate) fn lag(&self) -> u64 {
        self.lags.iter().map(|lag| lag.load(Ordering::Relaxed)).max().unwrap_or(0)
    }
}

/// How far the readers of a thread are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Streams that are open.
    pub(crate) open: usize,
    /// Messages that came.
    pub(crate) deliveries: u64,
    /// What was wrong with the streams.
    pub(crate) faults: Faults,
    /// Streams that the server ended and that came back.
    pub(crate) returns: u64,
    /// Streams that could not be opened again and again.
    pub(crate) lost: usize,
    /// Why the first of those that were refused was.
    pub(crate) refusal: Option<String>,
    /// Processor time of the busiest thread, in microseconds.
    pub(crate) busy_us: u64,
    /// The judgement this was counted for, and the streams that had not caught up.
    pub(crate) behind: (usize, usize),
}

impl Reading {
    /// The sum of what all threads tell.
    pub(crate) fn sum(parts: &[Self]) -> Self {
        parts.iter().fold(Self::default(), |mut sum, part| {
            sum.open += part.open;
            sum.deliveries += part.deliveries;
            sum.faults.missing += part.faults.missing;
            sum.faults.doubled += part.faults.doubled;
            sum.faults.misplaced += part.faults.misplaced;
            sum.faults.resets += part.faults.resets;
            sum.returns += part.returns;
            sum.lost += part.lost;
            sum.busy_us = sum.busy_us.max(part.busy_us);
            sum.refusal = sum.refusal.or_else(|| part.refusal.clone());
            sum
        })
    }
}

/// How far the callers are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calling {
    /// Requests that were answered as they should be.
    pub(crate) answered: u64,
    /// Requests that were refused, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Requests that were not answered, or by less than was asked for.
    pub(crate) broken: u64,
    /// Processor time of the thread, in microseconds.
    pub(crate) busy_us: u64,
    /// What the first refusal said.
    pub(crate) refusal: Option<String>,
}

/// What one thread tells; the lock is held for a copy only.
#[derive(Debug, Default)]
pub(crate) struct Board<T>(Mutex<T>);

impl<T: Clone> Board<T> {
    pub(crate) fn tell(&self, news: &T) {
        self.lock().clone_from(news);
    }

    pub(crate) fn read(&self) -> T {
        self.lock().clone()
    }

    /// A copy is whole even if the thread that made it panicked.
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
