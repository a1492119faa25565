//! Starts and ends the threads of a run, and reads their counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rig::{Explain as _, Result};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::plan::Plan;
use crate::target::Target;
use crate::threads::clock::Clock;
use crate::threads::control::{Control, Published, ReaderCounters, RequestCounters};
use crate::threads::reader_thread::{ReaderResults, ReaderThread};
use crate::threads::request_cycle::{self, RequestCycle};
use crate::threads::request_thread::{RequestLimits, RequestResults, RequestThread};

/// The reader threads, and the counters of all threads.
pub(crate) struct Workers {
    pub(crate) plan: Plan,
    pub(crate) target: Arc<Target>,
    pub(crate) control: Arc<Control>,
    pub(crate) clock: Clock,
    reader_counters: Vec<Arc<Published<ReaderCounters>>>,
    request_counters: Arc<Published<RequestCounters>>,
    typing_counters: Arc<Published<RequestCounters>>,
    readers: Vec<JoinHandle<Result<ReaderResults>>>,
}

/// A request thread that runs.
pub(crate) struct RunningRequests {
    thread: JoinHandle<Result<RequestResults>>,
    finish: Arc<AtomicBool>,
}

impl Workers {
    pub(crate) fn new(plan: &Plan, target: &Target) -> Self {
        Self {
            plan: plan.clone(),
            target: Arc::new(target.clone()),
            control: Arc::new(Control::new(plan.rooms, plan.threads)),
            clock: Clock::start(),
            reader_counters: (0..plan.threads).map(|_| Arc::default()).collect(),
            request_counters: Arc::default(),
            typing_counters: Arc::default(),
            readers: Vec::new(),
        }
    }

    /// Starts the threads that hold the streams.
    pub(crate) fn start_readers(&mut self) {
        let start = |(number, published): (usize, &Arc<Published<ReaderCounters>>)| {
            let reader = ReaderThread {
                target: Arc::clone(&self.target),
                plan: self.plan.clone(),
                control: Arc::clone(&self.control),
                published: Arc::clone(published),
                clock: self.clock,
                number,
            };
            spawn_blocking(move || reader.run())
        };
        self.readers = self.reader_counters.iter().enumerate().map(start).collect();
    }

    /// Starts the work of the plan; `None` if there is none.
    pub(crate) fn start_work(&self) -> Option<RunningRequests> {
        let limits = RequestLimits {
            lag: self.plan.lag,
            windows: self.plan.windows(),
        };
        let cycles = request_cycle::of_work(&self.plan, &self.target);
        (!cycles.is_empty()).then(|| self.start_requests(cycles, limits))
    }

    /// Starts a thread that sends the requests of `cycles`.
    pub(crate) fn start_requests(&self, cycles: Vec<RequestCycle>, limits: RequestLimits) -> RunningRequests {
        self.start_thread(cycles, limits, &self.request_counters)
    }

    /// Starts a thread that sends typing calls.
    pub(crate) fn start_typing(&self) -> RunningRequests {
        let limits = RequestLimits {
            lag: 0,
            windows: self.plan.windows(),
        };
        self.start_thread(request_cycle::of_typing(&self.plan, &self.target), limits, &self.typing_counters)
    }

    fn start_thread(
        &self,
        cycles: Vec<RequestCycle>,
        limits: RequestLimits,
        counters: &Arc<Published<RequestCounters>>,
    ) -> RunningRequests {
        let finish = Arc::<AtomicBool>::default();
        counters.publish(&RequestCounters::default());
        let thread = RequestThread {
            target: Arc::clone(&self.target),
            control: Arc::clone(&self.control),
            published: Arc::clone(counters),
            clock: self.clock,
            cycles,
            limits,
            finish: Arc::clone(&finish),
        };
        RunningRequests {
            thread: spawn_blocking(move || thread.run()),
            finish,
        }
    }

    /// The counters of all reader threads together.
    pub(crate) fn reader_counters(&self) -> ReaderCounters {
        let parts: Vec<ReaderCounters> = self.reader_counters.iter().map(|published| published.snapshot()).collect();
        ReaderCounters::sum(&parts)
    }

    /// The counters of the request thread.
    pub(crate) fn request_counters(&self) -> RequestCounters {
        self.request_counters.snapshot()
    }

    /// The counters of the last thread that was started to send typing calls.
    pub(crate) fn typing_counters(&self) -> RequestCounters {
        self.typing_counters.snapshot()
    }

    /// Streams that have not caught up in check `number`; `None` until all threads have done the check.
    pub(crate) fn behind(&self, number: usize) -> Option<usize> {
        let parts: Vec<(usize, usize)> =
            self.reader_counters.iter().map(|published| published.snapshot().behind).collect();
        let is_checked = parts.iter().all(|(check, _)| *check == number);
        is_checked.then(|| parts.iter().map(|(_, behind)| behind).sum())
    }

    /// Ends the reader threads.
    pub(crate) async fn end(&mut self) -> Result<Vec<ReaderResults>> {
        self.control.stop.store(true, Ordering::Relaxed);
        let mut results = Vec::new();
        for reader in std::mem::take(&mut self.readers) {
            results.push(reader.await.explain(|| "a reader thread panicked".to_owned())??);
        }
        Ok(results)
    }
}

impl Drop for Workers {
    /// Ends the threads of a run that is given up.
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::Relaxed);
    }
}

impl RunningRequests {
    /// True when all requests were answered, or the thread failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the requests in flight and ends the thread.
    pub(crate) async fn end(self) -> Result<RequestResults> {
        self.finish.store(true, Ordering::Relaxed);
        self.thread.await.explain(|| "the request thread panicked".to_owned())?
    }
}
