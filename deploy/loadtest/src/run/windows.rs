//! The windows of a load: what changes before each, and what is measured in it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rig::{Latencies, Result};

use super::{Load, Run};
use crate::results::history_reads::StatementLogs;
use crate::results::process_usage::{ProcessUsage, process_usage};
use crate::results::send_queues::{SendQueues, StalledStreams, send_queues};
use crate::results::typing::TypingCalls;
use crate::results::window::Window;
use crate::threads::control::{ReaderCounters, RequestCounters};
use crate::threads::workers::RunningRequests;

/// Longest time until the sockets of all stalled streams are full; the posts of that time must be more than kernels
/// buffer.
const FULL_WITHIN: Duration = Duration::from_secs(30);
/// Sockets count as full when each holds something and nothing has changed for so long.
const FULL_FOR: Duration = Duration::from_secs(1);

/// The counters of all threads and the usage of all processes at a moment.
struct Sample {
    at: Instant,
    readers: ReaderCounters,
    requests: RequestCounters,
    typing: RequestCounters,
    processes: Vec<ProcessUsage>,
}

impl Run<'_> {
    /// Puts on the load and measures the windows in it.
    pub(super) async fn load(&self) -> Result<Load> {
        let requests = self.workers.start_work();
        self.pass("warming up", self.plan.warm_up, requests.as_ref()).await?;
        let mut load = Load::default();
        for number in 1..=self.plan.windows() {
            let typing = self.change_load(number, requests.as_ref()).await?;
            let mut window = self.window(number, requests.as_ref()).await?;
            if let (Some(typing), Some(calls)) = (typing, &mut window.typing) {
                let times = typing.end().await?.latencies;
                calls.answer_ms = times.get(number - 1).and_then(Latencies::percentiles);
            }
            load.windows.push(window);
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

    /// Changes the load for window `number`, and waits until the change has its effect. Returns the thread that sends typing calls, if the
    /// window has them.
    async fn change_load(&self, number: usize, requests: Option<&RunningRequests>) -> Result<Option<RunningRequests>> {
        if number == 2 && self.plan.stalled_percent > 0 {
            self.workers.control.stalling.store(true, Ordering::Relaxed);
            self.wait_stalled_full().await?;
        }
        let typing = self.plan.is_typing(number).then(|| self.workers.start_typing());
        if number > 1 && self.plan.typing_every.is_some() {
            self.pass("warming up", self.plan.warm_up, requests).await?;
        }
        Ok(typing)
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

    /// Measures window `number`.
    async fn window(&self, number: usize, requests: Option<&RunningRequests>) -> Result<Window> {
        let logs = StatementLogs::mark(&self.workers.target.logs)?;
        self.workers.control.window.store(number, Ordering::Relaxed);
        let before = self.sample();
        self.pass("measuring", self.plan.window, requests).await?;
        let after = self.sample();
        self.workers.control.window.store(0, Ordering::Relaxed);
        let mut window = before.until(&after);
        window.typing = self.plan.is_typing(number).then(|| before.typing_calls(&after));
        let statements = logs.statements_since_mark()?;
        window.statements_per_s =
            statements.map(|count| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / window.seconds);
        window.stalled_percent = if number == 2 { self.plan.stalled_percent } else { 0 };
        Ok(window)
    }

    fn sample(&self) -> Sample {
        Sample {
            at: Instant::now(),
            readers: self.workers.reader_counters(),
            requests: self.workers.request_counters(),
            typing: self.workers.typing_counters(),
            processes: process_usage(&self.processes),
        }
    }
}

impl Sample {
    /// The window from this sample to `after`.
    fn until(&self, after: &Self) -> Window {
        let seconds = (after.at - self.at).as_secs_f64();
        let deliveries = after.readers.deliveries - self.readers.deliveries;
        let answered = after.requests.answered - self.requests.answered;
        let share =
            |before: u64, after: u64| Duration::from_micros(after.saturating_sub(before)).as_secs_f64() / seconds;
        let of_requests = share(self.requests.busy_us, after.requests.busy_us);
        let of_typing = share(self.typing.busy_us, after.typing.busy_us);
        Window {
            reader_busy: share(self.readers.busy_us, after.readers.busy_us),
            caller_busy: of_requests.max(of_typing),
            typing_events: after.readers.typing_events - self.readers.typing_events,
            ..Window::new(seconds, deliveries, answered, &self.processes, &after.processes)
        }
    }

    /// The typing calls from this sample to `after`.
    fn typing_calls(&self, after: &Self) -> TypingCalls {
        TypingCalls {
            statuses: after.typing.statuses_since(&self.typing),
            broken: after.typing.broken - self.typing.broken,
            answer_ms: None,
        }
    }
}
