//! The steps of a run: open the streams, put on the load, measure, wait until every stream has caught up, end.

mod posting;
mod resume;
mod sync;
mod waiting;
mod windows;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rig::{Failure, Latencies, Process, Result, Stack};

use crate::plan::{Plan, Work};
use crate::progress::Progress;
use crate::results::figures::Figures;
use crate::results::history_reads::HistoryReads;
use crate::results::process_cost::ProcessMemory;
use crate::results::process_usage::process_usage;
use crate::results::send_queues::StalledStreams;
use crate::results::sync_times::SyncTimes;
use crate::results::typing::TypingEffect;
use crate::results::window::Window;
use crate::target::Target;
use crate::threads::reader_thread::ReaderResults;
use crate::threads::workers::Workers;

/// Longest time until all streams are open, besides the time that the ramp takes.
const OPEN_WITHIN: Duration = Duration::from_mins(3);
/// Messages posted to each room before the memory of streams is measured, and most of them in all rooms together, but for one in
/// each. While it handles them, a server gives back what it took for its start, which would be subtracted from the memory of the
/// streams otherwise.
const SETTLING_MESSAGES: u64 = 200;
const SETTLING_MESSAGES_IN_ALL: u64 = 20_000;
/// Longest time until every stream has every message.
const CATCH_UP_WITHIN: Duration = Duration::from_mins(2);
/// Puts the load of `plan` on `target`, whose rooms have no messages, and measures it.
pub async fn run(plan: &Plan, target: &Target, progress: &Progress) -> Result<Figures> {
    begin(plan, target, None, progress).await
}

/// The same on the gateways of `stack`, which a plan may ask to restart.
pub async fn run_on_stack(plan: &Plan, target: &Target, stack: &mut Stack, progress: &Progress) -> Result<Figures> {
    begin(plan, target, Some(stack), progress).await
}

async fn begin(plan: &Plan, target: &Target, stack: Option<&mut Stack>, progress: &Progress) -> Result<Figures> {
    if let Some(problem) = plan.problem() {
        return Err(Failure::new(problem));
    }
    Run {
        plan,
        workers: Workers::new(plan, target),
        processes: target.processes.clone(),
        stack,
        progress,
    }
    .steps()
    .await
}

struct Run<'a> {
    plan: &'a Plan,
    workers: Workers,
    /// Server processes whose processor time and memory are measured.
    processes: Vec<Process>,
    /// The installation, if it is one of this run.
    stack: Option<&'a mut Stack>,
    progress: &'a Progress,
}

/// What was measured between the opening of the streams and the end.
#[derive(Default)]
struct Load {
    windows: Vec<Window>,
    response_times: Vec<Latencies>,
    caught_up_s: Option<f64>,
    stalled: Option<StalledStreams>,
    reads: Option<HistoryReads>,
    sync: Option<SyncTimes>,
    behind: usize,
}

impl Run<'_> {
    async fn steps(mut self) -> Result<Figures> {
        if let Work::Sync { connections, calls } = self.plan.work {
            let load = Load {
                sync: Some(self.sync(connections, calls).await?),
                ..Load::default()
            };
            self.progress.clear();
            return Ok(self.figures(0.0, Vec::new(), load, &[]));
        }
        if self.plan.stored_messages() > 0 {
            self.post("filling", self.plan.stored_messages()).await?;
            self.wait_stored(self.plan.stored_messages()).await?;
        }
        if self.plan.measures_stream_memory {
            let of_each = SETTLING_MESSAGES_IN_ALL / self.plan.rooms as u64;
            self.post("settling", of_each.clamp(1, SETTLING_MESSAGES)).await?;
            if self.plan.user_rooms.is_some() {
                self.warm_up().await?;
            }
        }
        let (before, was_steady) = self.steady_usage().await;
        self.workers.start_readers();
        let opened_s = self.open(self.plan.streams).await?;
        let (open, is_steady) = self.steady_usage().await;
        let load = match self.plan.missed {
            Some(missed) => self.resume(missed).await?,
            None => self.load().await?,
        };
        let after = process_usage(&self.processes);
        let results = self.workers.end().await?;
        self.progress.clear();
        let streams = (self.plan.measures_stream_memory && was_steady && is_steady).then_some(self.plan.streams);
        let memory = ProcessMemory::of(&before, &open, &after, streams);
        let mut figures = self.figures(opened_s, memory, load, &results);
        figures.is_memory_unsteady = self.plan.measures_stream_memory && streams.is_none();
        Ok(figures)
    }

    /// Opens so many streams; returns how many seconds that took.
    async fn open(&self, streams: usize) -> Result<f64> {
        self.progress.step("opening", streams as u64);
        let began = Instant::now();
        let ramp_s = self.plan.ramp.map_or(0, |per_s| streams / per_s.max(1));
        let within = OPEN_WITHIN + Duration::from_secs(u64::try_from(ramp_s)?);
        self.until(within, "all streams are open", || {
            let open_limit = match self.plan.ramp {
                Some(per_s) => usize::try_from(began.elapsed().as_millis())? * per_s / 1_000,
                None => streams,
            };
            self.workers.control.open_limit.store(open_limit.min(streams), Ordering::Relaxed);
            let counters = self.workers.reader_counters();
            self.progress.set(counters.open as u64, || format!("{} of {streams} streams", counters.open));
            if counters.given_up > 0 || began.elapsed() > within {
                let reason = counters.refusal.unwrap_or_default();
                let missing = streams - counters.open;
                return Err(Failure::new(format!("{missing} of {streams} streams could not be opened: {reason}")));
            }
            Ok(counters.open == streams)
        })
        .await?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Waits until every stream that reads has all messages of its room; records how many lack some in the end.
    async fn catch_up(&self, load: &mut Load) {
        self.workers.control.catch_up_check.store(1, Ordering::Relaxed);
        let began = Instant::now();
        let streams = self.plan.streams;
        self.progress.step("catching up", streams as u64);
        let ended = self.until(CATCH_UP_WITHIN, "every stream has every message", || {
            let behind = self.workers.behind(1);
            let done = streams - behind.unwrap_or(streams);
            self.progress.set(done as u64, || format!("{done} of {streams} streams"));
            Ok(behind == Some(0))
        });
        load.caught_up_s = ended.await.is_ok().then(|| began.elapsed().as_secs_f64());
        load.behind = self.workers.behind(1).unwrap_or(streams);
    }

    fn figures(&self, opened_s: f64, memory: Vec<ProcessMemory>, mut load: Load, results: &[ReaderResults]) -> Figures {
        for (number, window) in load.windows.iter_mut().enumerate() {
            let times = Latencies::merged(results.iter().filter_map(|results| results.latencies.get(number)));
            window.post_to_event_ms = times.percentiles();
            window.answer_ms = load.response_times.get(number).and_then(Latencies::percentiles);
        }
        let (reader, request) = (self.workers.reader_counters(), self.workers.request_counters());
        let mut refused = request.statuses;
        refused.retain(|status, _| !self.workers.target.is_success(*status));
        let catch_up = Latencies::merged(results.iter().map(|results| &results.catch_up)).percentiles();
        Figures {
            server: self.workers.target.kind.name().to_owned(),
            streams: self.plan.streams,
            rooms: self.plan.rooms,
            rooms_each: self.plan.rooms_each(),
            text: self.plan.text,
            messages: self.plan.stored_messages(),
            asked_per_s: match self.plan.work {
                Work::Rate(per_s) => Some(per_s),
                _ => None,
            },
            opened_s,
            windows: load.windows,
            memory,
            is_memory_unsteady: false,
            caught_up_s: load.caught_up_s,
            catch_up_ms: catch_up.filter(|_| self.plan.missed.is_some()),
            stalled: load.stalled,
            reads: load.reads,
            sync: load.sync,
            typing: self.typing_effect(results),
            behind: load.behind,
            missing: reader.violations.missing,
            doubled: reader.violations.doubled,
            misplaced: reader.violations.misplaced,
            resets: reader.violations.resets,
            returns: reader.reconnects,
            refused,
            broken: request.broken,
        }
    }

    /// Compares the times of messages in the windows with typing calls with those in the other windows.
    fn typing_effect(&self, results: &[ReaderResults]) -> Option<TypingEffect> {
        let times = |is_typing: bool| {
            let windows = (1..=self.plan.windows()).filter(move |number| self.plan.is_typing(*number) == is_typing);
            let latencies =
                windows.flat_map(|number| results.iter().filter_map(move |part| part.latencies.get(number - 1)));
            Latencies::merged(latencies)
        };
        TypingEffect::new(self.plan.typing_per_s()?, &times(false), &times(true))
    }
}
