//! The steps of a run: open the streams, put on the load, measure, wait until every stream has caught up, end.

mod posting;
mod sync;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rig::{Failure, Latencies, Process, Result, Stack};

use crate::plan::{Plan, Work};
use crate::progress::Progress;
use crate::results::figures::Figures;
use crate::results::history_reads::{HistoryReads, StatementLogs};
use crate::results::process_cost::ProcessMemory;
use crate::results::process_usage::process_usage;
use crate::results::send_queues::{SendQueues, StalledStreams, send_queues};
use crate::results::sync_times::SyncTimes;
use crate::results::window::Window;
use crate::target::Target;
use crate::threads::reader_thread::ReaderResults;
use crate::threads::workers::{RunningRequests, Workers};

/// Longest time until all streams are open, besides the time that the ramp takes.
const OPEN_WITHIN: Duration = Duration::from_mins(3);
/// Messages posted to each room before the memory of streams is measured, and most of them in all rooms together, but for one in
/// each. While it handles them, a server gives back what it took for its start, which would be subtracted from the memory of the
/// streams otherwise.
const SETTLING_MESSAGES: u64 = 200;
const SETTLING_MESSAGES_IN_ALL: u64 = 20_000;
/// Longest time until every stream has every message.
const CATCH_UP_WITHIN: Duration = Duration::from_mins(2);
/// Longest time until the sockets of all stalled streams are full; the posts of that time must be more than kernels
/// buffer.
const FULL_WITHIN: Duration = Duration::from_secs(30);
/// Sockets count as full when each holds something and nothing has changed for so long.
const FULL_FOR: Duration = Duration::from_secs(1);

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
        figures.is_restless = self.plan.measures_stream_memory && streams.is_none();
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

    /// Puts on the load and measures the windows in it.
    async fn load(&self) -> Result<Load> {
        let requests = self.workers.start_work();
        self.pass("warming up", self.plan.warm_up, requests.as_ref()).await?;
        let mut load = Load::default();
        for number in 1..=self.plan.windows() {
            if number == 2 {
                self.workers.control.stalling.store(true, Ordering::Relaxed);
                self.wait_stalled_full().await?;
            }
            load.windows.push(self.window(number, requests.as_ref()).await?);
        }
        if self.plan.stalled_percent > 0 {
            load.stalled = send_queues(&self.workers.target).map(|queues| StalledStreams::of(self.plan, &queues));
        }
        if let Some(requests) = requests {
            load.response_times = requests.end().await?.latencies;
        }
        self.catch_up(&mut load).await;
        Ok(load)
    }

    /// Waits until the gateways can write nothing more to the stalled streams; before that, the gateways do not have to
    /// hold anything for them. The send queues of a gateway on another machine cannot be seen: there a fixed time
    /// passes instead.
    async fn wait_stalled_full(&self) -> Result<()> {
        let Some(mut before) = send_queues(&self.workers.target) else {
            return self.pass("stalling", FULL_WITHIN, None).await;
        };
        self.progress.step("stalling", 1);
        let mut check_at = Instant::now() + FULL_FOR;
        self.until(FULL_WITHIN, "the sockets of all stalled streams are full", || {
            if Instant::now() < check_at {
                return Ok(false);
            }
            let now: SendQueues = send_queues(&self.workers.target).unwrap_or_default();
            let is_full = now.values().all(|bytes| *bytes > 0) && now == before;
            (before, check_at) = (now, Instant::now() + FULL_FOR);
            Ok(is_full)
        })
        .await
    }

    /// Disconnects all streams, posts the messages that each is to miss, restarts the gateways if the plan says so, and lets the
    /// streams reconnect.
    async fn resume(&mut self, missed: u64) -> Result<Load> {
        let control = Arc::clone(&self.workers.control);
        control.disconnect.store(true, Ordering::Relaxed);
        let are_disconnected = || Ok(self.workers.reader_counters().open == 0);
        self.until(CATCH_UP_WITHIN, "all streams are disconnected", are_disconnected).await?;
        self.post("posting", self.plan.missed_per_room(missed)).await?;
        if self.plan.restarts {
            self.restart_gateways().await?;
        }
        // A client that reconnects later misses messages that are stored, not ones that were accepted a moment ago.
        self.steady_usage().await;
        let mut load = Load::default();
        let logs = StatementLogs::mark(&self.workers.target.logs)?;
        control.reconnect_at_us.store(self.workers.clock.micros(), Ordering::Relaxed);
        control.disconnect.store(false, Ordering::Relaxed);
        self.catch_up(&mut load).await;
        load.reads = logs.reads_since_mark(self.plan.rooms)?;
        Ok(load)
    }

    /// Restarts the gateways: they keep no messages.
    async fn restart_gateways(&mut self) -> Result<()> {
        let without = || Failure::new("only gateways of an installation of this run can be restarted");
        let stack = self.stack.as_mut().ok_or_else(without)?;
        self.progress.step("restarting", 1);
        stack.renew_gateways().await?;
        self.processes = stack.processes()?;
        Ok(())
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

    /// Measures window `number`.
    async fn window(&self, number: usize, requests: Option<&RunningRequests>) -> Result<Window> {
        let measure = || {
            let (reader, request) = (self.workers.reader_counters(), self.workers.request_counters());
            (reader, request, process_usage(&self.processes))
        };
        let logs = StatementLogs::mark(&self.workers.target.logs)?;
        self.workers.control.window.store(number, Ordering::Relaxed);
        let (began, (reader, request, usage)) = (Instant::now(), measure());
        self.pass("measuring", self.plan.window, requests).await?;
        let (seconds, (reader_now, request_now, usage_now)) = (began.elapsed().as_secs_f64(), measure());
        self.workers.control.window.store(0, Ordering::Relaxed);
        let deliveries = reader_now.deliveries - reader.deliveries;
        let answered = request_now.answered - request.answered;
        let mut window = Window::new(seconds, deliveries, answered, &usage, &usage_now);
        let share = |busy_us: u64| Duration::from_micros(busy_us).as_secs_f64() / seconds;
        window.reader_busy = share(reader_now.busy_us.saturating_sub(reader.busy_us));
        window.caller_busy = share(request_now.busy_us.saturating_sub(request.busy_us));
        let statements = logs.statements_since_mark()?;
        window.statements_per_s = statements.map(|count| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds);
        window.stalled_percent = if number == 2 { self.plan.stalled_percent } else { 0 };
        Ok(window)
    }

    fn figures(&self, opened_s: f64, memory: Vec<ProcessMemory>, mut load: Load, results: &[ReaderResults]) -> Figures {
        for (number, window) in load.windows.iter_mut().enumerate() {
            let times = Latencies::merged(results.iter().filter_map(|results| results.latencies.get(number)));
            window.post_to_event_ms = times.percentiles();
            window.answer_ms = load.response_times.get(number).and_then(Latencies::percentiles);
        }
        let (reader, request) = (self.workers.reader_counters(), self.workers.request_counters());
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
            is_restless: false,
            caught_up_s: load.caught_up_s,
            catch_up_ms: catch_up.filter(|_| self.plan.missed.is_some()),
            stalled: load.stalled,
            reads: load.reads,
            sync: load.sync,
            behind: load.behind,
            missing: reader.violations.missing,
            doubled: reader.violations.doubled,
            misplaced: reader.violations.misplaced,
            resets: reader.violations.resets,
            returns: reader.reconnects,
            refused: request.refused,
            broken: request.broken,
        }
    }
}
