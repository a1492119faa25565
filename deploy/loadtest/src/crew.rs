//! The threads of a run: who started them, and how far they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rig::{Explain as _, Result};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::caller::{Caller, Heard};
use crate::clock::Clock;
use crate::orders::{Board, Calling, Orders, Reading};
use crate::plan::Plan;
use crate::reader::{Reader, Seen};
use crate::script::{self, Script};
use crate::site::Site;

/// Reading threads, and what callers have told.
pub(crate) struct Crew {
    pub(crate) plan: Plan,
    pub(crate) site: Arc<Site>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) clock: Clock,
    readings: Vec<Arc<Board<Reading>>>,
    calling: Arc<Board<Calling>>,
    readers: Vec<JoinHandle<Result<Seen>>>,
}

/// Callers at work.
pub(crate) struct Callers {
    thread: JoinHandle<Result<Heard>>,
    finish: Arc<AtomicBool>,
}

/// How often callers ask, and when they have asked enough.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// Requests that each connection gets answered; `None` for any number.
    pub(crate) limit_each: Option<u64>,
    /// They pause while the slowest stream is so many messages behind; 0 for never.
    pub(crate) lag: u64,
    /// How many windows there will be.
    pub(crate) windows: usize,
}

impl Crew {
    pub(crate) fn new(plan: &Plan, site: &Site) -> Self {
        Self {
            plan: plan.clone(),
            site: Arc::new(site.clone()),
            orders: Arc::new(Orders::new(plan.rooms, plan.threads)),
            clock: Clock::start(),
            readings: (0..plan.threads).map(|_| Arc::default()).collect(),
            calling: Arc::default(),
            readers: Vec::new(),
        }
    }

    /// Starts the threads that hold the streams.
    pub(crate) fn start_readers(&mut self) {
        let start = |(number, board): (usize, &Arc<Board<Reading>>)| {
            let reader = Reader {
                site: Arc::clone(&self.site),
                plan: self.plan.clone(),
                orders: Arc::clone(&self.orders),
                board: Arc::clone(board),
                clock: self.clock,
                number,
            };
            spawn_blocking(move || reader.run())
        };
        self.readers = self.readings.iter().enumerate().map(start).collect();
    }

    /// Starts whoever does the plan's work; nobody where there is none.
    pub(crate) fn start_work(&self) -> Option<Callers> {
        let pace = Pace {
            lag: self.plan.lag,
            windows: self.plan.windows(),
            ..Pace::default()
        };
        let scripts = script::work(&self.plan, &self.site);
        (!scripts.is_empty()).then(|| self.start_callers(scripts, pace))
    }

    /// Starts a thread of callers.
    pub(crate) fn start_callers(&self, scripts: Vec<Script>, pace: Pace) -> Callers {
        let finish = Arc::<AtomicBool>::default();
        self.calling.tell(&Calling::default());
        let caller = Caller {
            site: Arc::clone(&self.site),
            orders: Arc::clone(&self.orders),
            board: Arc::clone(&self.calling),
            clock: self.clock,
            scripts,
            pace,
            finish: Arc::clone(&finish),
        };
        Callers {
            thread: spawn_blocking(move || caller.run()),
            finish,
        }
    }

    /// How far the readers are, all together.
    pub(crate) fn reading(&self) -> Reading {
        let parts: Vec<Reading> = self.readings.iter().map(|board| board.read()).collect();
        Reading::sum(&parts)
    }

    /// How far the callers are.
    pub(crate) fn calling(&self) -> Calling {
        self.calling.read()
    }

    /// Streams that have not caught up, in the judgement `number`; `None` until all threads have judged.
    pub(crate) fn behind(&self, number: usize) -> Option<usize> {
        let parts: Vec<(usize, usize)> = self.readings.iter().map(|board| board.read().behind).collect();
        let is_judged = parts.iter().all(|(judgement, _)| *judgement == number);
        is_judged.then(|| parts.iter().map(|(_, behind)| behind).sum())
    }

    /// Ends the reading threads.
    pub(crate) async fn end(&mut self) -> Result<Vec<Seen>> {
        self.orders.stop.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for reader in std::mem::take(&mut self.readers) {
            seen.push(reader.await.explain(|| "a reading thread panicked".to_owned())??);
        }
        Ok(seen)
    }
}

impl Drop for Crew {
    /// Ends the threads of a run that is given up.
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
    }
}

impl Callers {
    /// True when everything was asked, or something went wrong.
    pub(crate) fn have_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Lets them finish what is on its way.
    pub(crate) async fn end(self) -> Result<Heard> {
        self.finish.store(true, Ordering::Relaxed);
        self.thread.await.explain(|| "the calling thread panicked".to_owned())?
    }
}
