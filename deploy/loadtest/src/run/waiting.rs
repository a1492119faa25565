//! Waits within a run: for a condition, for a time under load, and until the memory of the servers is steady.

use std::time::{Duration, Instant};

use rig::{Failure, Result};
use tokio::time::sleep;

use super::Run;
use crate::progress::millis;
use crate::results::process_usage::{ProcessUsage, process_usage};
use crate::threads::workers::RunningRequests;

/// Memory is steady when no process has grown or shrunk for so long by more than one part in [`STEADY_PARTS`]. A gateway frees what
/// nobody has used for ten seconds, and looks for it every second or two.
const STEADY_FOR: Duration = Duration::from_secs(12);
/// A change of memory smaller than the quotient of the memory and this number counts as none.
const STEADY_PARTS: u64 = 100;
/// Longest time to wait for steady memory.
const STEADY_WITHIN: Duration = Duration::from_mins(1);
/// How often memory is measured meanwhile.
const MEASURE_EVERY: Duration = Duration::from_millis(500);
/// How often conditions are checked.
const CHECK_EVERY: Duration = Duration::from_millis(20);

impl Run<'_> {
    /// Waits until the memory of the servers is steady. Returns the usage of their processes, and whether it is steady.
    pub(super) async fn steady_usage(&self) -> (Vec<ProcessUsage>, bool) {
        // The memory of a stream is measured in the first process. A small one never seems steady, since its share of
        // the pages that it has in common with other processes changes with them.
        let watched = if self.plan.measures_stream_memory {
            1
        } else {
            usize::MAX
        };
        let deadline = Instant::now() + STEADY_WITHIN;
        let measure = || (Instant::now(), process_usage(&self.processes));
        let (mut since, mut before) = measure();
        loop {
            sleep(MEASURE_EVERY).await;
            let (at, now) = measure();
            let is_steady = |(before, now): (&ProcessUsage, &ProcessUsage)| {
                now.resident_kib.abs_diff(before.resident_kib) <= before.resident_kib / STEADY_PARTS
            };
            if !before.iter().zip(&now).take(watched).all(is_steady) {
                (since, before) = (at, now);
            } else if at - since >= STEADY_FOR {
                return (now, true);
            }
            if at > deadline {
                return (measure().1, false);
            }
        }
    }

    /// Lets `time` pass under load.
    pub(super) async fn pass(
        &self,
        step: &'static str,
        time: Duration,
        requests: Option<&RunningRequests>,
    ) -> Result<()> {
        self.progress.step(step, millis(time));
        let began = Instant::now();
        while began.elapsed() < time {
            if requests.is_some_and(RunningRequests::has_ended) {
                let refusal = self.workers.request_counters().refusal.unwrap_or_default();
                return Err(Failure::new(format!("the request thread ended early {refusal}")));
            }
            let answered = self.workers.request_counters().answered;
            let deliveries = self.workers.reader_counters().deliveries;
            let message = || format!("{answered} requests, {deliveries} deliveries");
            self.progress.set(millis(began.elapsed()), message);
            sleep(CHECK_EVERY.min(time.saturating_sub(began.elapsed()))).await;
        }
        Ok(())
    }

    /// Waits until `is_done`, for at most `within`.
    pub(super) async fn until(
        &self,
        within: Duration,
        what: &str,
        mut is_done: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        while !is_done()? {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("not within {} s: {what}", within.as_secs())));
            }
            sleep(CHECK_EVERY).await;
        }
        Ok(())
    }
}
