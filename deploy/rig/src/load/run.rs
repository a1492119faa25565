//! The steps of a run: open the streams, load, measure, let everybody catch up, end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::caller::{Caller, Heard};
use super::clock::Clock;
use super::figures::{Figures, Memory, Window};
use super::latencies::Latencies;
use super::orders::{Board, Calling, Orders, Reading, StopOnDrop};
use super::plan::{Plan, Work};
use super::progress::{Progress, millis};
use super::reader::{Reader, Seen};
use super::script::{self, Script};
use super::site::{Dialect, Site};
use super::watch::usage;
use crate::{Explain as _, Failure, Result};

/// Longest time until all streams are open, beside what the ramp asks for.
const OPEN_WITHIN: Duration = Duration::from_mins(3);
/// Longest time until every stream has caught up with what was posted.
const CATCH_UP_WITHIN: Duration = Duration::from_mins(1);
/// Longest time to post what history is read from, or what is missed.
const POST_WITHIN: Duration = Duration::from_mins(15);
/// Time in which servers come to rest, before their memory is read.
const REST: Duration = Duration::from_secs(2);
/// How often the steps look how far the threads are.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Puts the load of `plan` on `site`, whose rooms are empty.
pub async fn run(plan: &Plan, site: &Site, progress: &Progress) -> Result<Figures> {
    if let Some(complaint) = plan.complaint() {
        return Err(Failure::new(complaint));
    }
    let run = Run::new(plan, site, progress);
    let orders = Arc::clone(&run.orders);
    // Also when a step fails or the run is given up.
    let _stop = StopOnDrop(&orders);
    run.steps().await
}

struct Run<'a> {
    plan: &'a Plan,
    site: Arc<Site>,
    progress: &'a Progress,
    clock: Clock,
    orders: Arc<Orders>,
    readings: Vec<Arc<Board<Reading>>>,
    calling: Arc<Board<Calling>>,
}

/// Callers at work.
struct Callers {
    thread: JoinHandle<Result<Heard>>,
    finish: Arc<AtomicBool>,
}

/// What the load between opening and ending came to.
#[derive(Default)]
struct Load {
    windows: Vec<Window>,
    answers: Vec<Latencies>,
    caught_up_s: Option<f64>,
    behind: usize,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, site: &Site, progress: &'a Progress) -> Self {
        Self {
            plan,
            site: Arc::new(site.clone()),
            progress,
            clock: Clock::start(),
            orders: Arc::new(Orders::new(plan.rooms)),
            readings: (0..plan.threads).map(|_| Arc::default()).collect(),
            calling: Arc::default(),
        }
    }

    async fn steps(self) -> Result<Figures> {
        self.fill().await?;
        let before = usage(&self.site.processes);
        let readers = self.start_readers();
        let began = Instant::now();
        self.open().await?;
        let opened_s = began.elapsed().as_secs_f64();
        sleep(REST).await;
        let open = usage(&self.site.processes);
        let load = match self.plan.missed {
            Some(missed) => self.resume(missed).await?,
            None => self.load().await?,
        };
        let after = usage(&self.site.processes);
        self.orders.stop.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for reader in readers {
            seen.push(reader.await.explain(|| "a reading thread panicked".to_owned())??);
        }
        self.progress.clear();
        let memory = Memory::of(&before, &open, &after, self.plan.streams);
        Ok(self.figures(opened_s, memory, load, &seen))
    }

    fn start_readers(&self) -> Vec<JoinHandle<Result<Seen>>> {
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
        self.readings.iter().enumerate().map(start).collect()
    }

    /// Posts what history is read from.
    async fn fill(&self) -> Result<()> {
        match self.plan.work {
            Work::History { messages, .. } => self.post("filling", messages).await,
            _ => Ok(()),
        }
    }

    /// Posts `messages` to each room, and waits until they are accepted.
    async fn post(&self, step: &'static str, messages: u64) -> Result<()> {
        let (scripts, each) = script::filling(self.plan, &self.site, messages);
        let total = scripts.len() as u64 * each;
        let callers = self.start_callers(scripts, None, Some(each), 0);
        self.progress.step(step, total);
        self.until(POST_WITHIN, "all is posted", || {
            let answered = self.calling.read().answered;
            self.progress.at(answered, || format!("{answered} of {total} messages"));
            Ok(callers.thread.is_finished())
        })
        .await?;
        callers.end().await?;
        match self.calling.read() {
            Calling { answered, .. } if answered >= total => Ok(()),
            Calling { answered, refusal, .. } => Err(Failure::new(format!(
                "only {answered} of {total} messages were accepted {}",
                refusal.unwrap_or_default()
            ))),
        }
    }

    async fn open(&self) -> Result<()> {
        let streams = self.plan.streams;
        self.progress.step("opening", streams as u64);
        let began = Instant::now();
        let ramp_time = self
            .plan
            .ramp
            .map_or(Duration::ZERO, |per_s| Duration::from_secs(u64::try_from(streams / per_s.max(1)).unwrap_or(0)));
        self.until(OPEN_WITHIN + ramp_time, "all streams are open", || {
            let may_open = match self.plan.ramp {
                Some(per_s) => usize::try_from(began.elapsed().as_millis()).unwrap_or(usize::MAX) * per_s / 1_000,
                None => streams,
            };
            self.orders.may_open.store(may_open.min(streams), Ordering::Relaxed);
            let reading = self.reading();
            self.progress.at(reading.open as u64, || format!("{} of {streams} streams", reading.open));
            if reading.lost > 0 {
                let reason = reading.refusal.unwrap_or_default();
                return Err(Failure::new(format!("{} streams were refused: {reason}", reading.lost)));
            }
            Ok(reading.open == streams)
        })
        .await
        .explain(|| {
            self.reading()
                .refusal
                .map_or_else(String::new, |refusal| format!("(a stream was refused: {refusal})"))
        })
    }

    /// Load, and the windows in it.
    async fn load(&self) -> Result<Load> {
        let every_us = match self.plan.work {
            Work::Rate(per_s) => Some(interval_us(self.plan.callers(), per_s)),
            _ => None,
        };
        let callers = match self.plan.work {
            Work::Silence => None,
            Work::History { .. } => Some((script::pages(self.plan, &self.site), None)),
            _ => Some((script::posts(self.plan, &self.site), every_us)),
        }
        .map(|(scripts, every)| self.start_callers(scripts, every, None, self.plan.windows()));
        self.pass("warming up", self.plan.warm_up, callers.as_ref()).await?;
        let mut load = Load::default();
        for number in 1..=self.plan.windows() {
            if number == 2 {
                self.orders.stalling.store(true, Ordering::Relaxed);
                self.pass("stalling", self.plan.warm_up, callers.as_ref()).await?;
            }
            load.windows.push(self.window(number, callers.as_ref()).await?);
        }
        if let Some(callers) = callers {
            load.answers = callers.end().await?.latencies;
        }
        self.catch_up(&mut load).await?;
        Ok(load)
    }

    /// All streams are cut, miss `missed` messages in each room, and come back.
    async fn resume(&self, missed: u64) -> Result<Load> {
        self.orders.away.store(true, Ordering::Relaxed);
        self.until(CATCH_UP_WITHIN, "all streams are cut", || Ok(self.reading().open == 0)).await?;
        self.post("posting", missed).await?;
        // What was accepted a moment ago is not what a client misses who comes back later: let it be stored.
        sleep(REST).await;
        let mut load = Load::default();
        self.orders.returned.store(self.clock.micros(), Ordering::Relaxed);
        self.orders.away.store(false, Ordering::Relaxed);
        self.catch_up(&mut load).await?;
        Ok(load)
    }

    /// Waits until every stream that reads has what its room holds.
    async fn catch_up(&self, load: &mut Load) -> Result<()> {
        self.orders.judgement.store(1, Ordering::Relaxed);
        let began = Instant::now();
        self.progress.step("catching up", self.plan.streams as u64);
        let behind = || {
            let parts: Vec<Reading> = self.readings.iter().map(|board| board.read()).collect();
            let is_judged = parts.iter().all(|part| part.behind.0 == 1);
            is_judged.then(|| parts.iter().map(|part| part.behind.1).sum::<usize>())
        };
        let ended = self
            .until(CATCH_UP_WITHIN, "every stream has every message", || {
                let behind = behind();
                let done = self.plan.streams.saturating_sub(behind.unwrap_or(self.plan.streams));
                self.progress.at(done as u64, || format!("{} of {} streams", done, self.plan.streams));
                Ok(behind == Some(0))
            })
            .await;
        load.caught_up_s = ended.is_ok().then(|| began.elapsed().as_secs_f64());
        load.behind = behind().unwrap_or(self.plan.streams);
        Ok(())
    }

    async fn window(&self, number: usize, callers: Option<&Callers>) -> Result<Window> {
        let counts = || (self.reading(), self.calling.read());
        self.orders.window.store(number, Ordering::Relaxed);
        let (began, before, (reading, calling)) = (Instant::now(), usage(&self.site.processes), counts());
        self.pass("measuring", self.plan.window, callers).await?;
        let (seconds, after, now) = (began.elapsed().as_secs_f64(), usage(&self.site.processes), counts());
        self.orders.window.store(0, Ordering::Relaxed);
        let deliveries = now.0.deliveries - reading.deliveries;
        let mut window = Window::new(seconds, deliveries, now.1.answered - calling.answered, &before, &after);
        let share = |busy_us: u64| Duration::from_micros(busy_us).as_secs_f64() / seconds;
        window.reader_busy = share(now.0.busy_us.saturating_sub(reading.busy_us));
        window.caller_busy = share(now.1.busy_us.saturating_sub(calling.busy_us));
        window.stalled_percent = if number == 2 { self.plan.stalled_percent } else { 0 };
        Ok(window)
    }

    /// Lets `time` pass under load.
    async fn pass(&self, name: &'static str, time: Duration, callers: Option<&Callers>) -> Result<()> {
        self.progress.step(name, millis(time));
        let began = Instant::now();
        while began.elapsed() < time {
            if callers.is_some_and(|callers| callers.thread.is_finished()) {
                let refusal = self.calling.read().refusal.unwrap_or_default();
                return Err(Failure::new(format!("the callers ended before their time {refusal}")));
            }
            let (deliveries, answered) = (self.reading().deliveries, self.calling.read().answered);
            self.progress
                .at(millis(began.elapsed()), || format!("{answered} requests, {deliveries} deliveries"));
            sleep(LOOK_EVERY.min(time.saturating_sub(began.elapsed()))).await;
        }
        Ok(())
    }

    /// Waits until `is_done`, for at most `within`.
    async fn until(&self, within: Duration, what: &str, mut is_done: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + within;
        while !is_done()? {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("not within {} s: {what}", within.as_secs())));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn start_callers(
        &self,
        scripts: Vec<Script>,
        every_us: Option<u64>,
        limit_each: Option<u64>,
        windows: usize,
    ) -> Callers {
        let finish = Arc::<AtomicBool>::default();
        self.calling.tell(&Calling::default());
        let caller = Caller {
            site: Arc::clone(&self.site),
            orders: Arc::clone(&self.orders),
            board: Arc::clone(&self.calling),
            clock: self.clock,
            scripts,
            every_us,
            limit_each,
            finish: Arc::clone(&finish),
            windows,
        };
        Callers {
            thread: spawn_blocking(move || caller.run()),
            finish,
        }
    }

    fn reading(&self) -> Reading {
        let parts: Vec<Reading> = self.readings.iter().map(|board| board.read()).collect();
        Reading::sum(&parts)
    }

    fn figures(&self, opened_s: f64, memory: Vec<Memory>, mut load: Load, seen: &[Seen]) -> Figures {
        for (number, window) in load.windows.iter_mut().enumerate() {
            window.post_to_event_ms = merged(seen.iter().filter_map(|seen| seen.latencies.get(number))).percentiles();
            window.answer_ms = load.answers.get(number).and_then(Latencies::percentiles);
        }
        let (reading, calling) = (self.reading(), self.calling.read());
        let catch_up = merged(seen.iter().map(|seen| &seen.catch_up)).percentiles();
        let mut figures = Figures {
            server: match self.site.dialect {
                Dialect::Roomcast => "roomcast",
                Dialect::Nchan => "nchan",
            },
            streams: self.plan.streams,
            rooms: self.plan.rooms,
            text: self.plan.text,
            opened_s,
            windows: load.windows,
            memory,
            caught_up_s: load.caught_up_s,
            catch_up_ms: catch_up.filter(|_| self.plan.missed.is_some()),
            behind: load.behind,
            missing: 0,
            doubled: 0,
            misplaced: 0,
            resets: 0,
            returns: reading.returns,
            refused: calling.refused,
            broken: calling.broken,
        };
        figures.blame(reading.faults);
        figures
    }
}

impl Callers {
    /// Lets them finish what is on its way.
    async fn end(self) -> Result<Heard> {
        self.finish.store(true, Ordering::Relaxed);
        self.thread.await.explain(|| "the calling thread panicked".to_owned())?
    }
}

fn merged<'a>(parts: impl Iterator<Item = &'a Latencies>) -> Latencies {
    parts.fold(Latencies::new(), |mut all, part| {
        all.merge(part);
        all
    })
}

/// Time between two requests of each of `callers` connections, in microseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a plan's rate and its few connections give a time between a microsecond and some days"
)]
fn interval_us(callers: usize, per_s: f64) -> u64 {
    (callers as f64 * 1e6 / per_s).max(1.0) as u64
}
