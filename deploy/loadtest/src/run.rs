//! The steps of a run: open the streams, load, measure, let everybody catch up, end.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rig::{ApiClient, Failure, Latencies, Result, eventually};
use tokio::time::sleep;

use crate::crew::{Callers, Crew, Pace};
use crate::figures::{Figures, Memory, Window};
use crate::orders::Calling;
use crate::plan::{Plan, Work};
use crate::progress::{Progress, millis};
use crate::queues::{Queues, Stalled, queues};
use crate::reader::Seen;
use crate::reads::{Logs, Reads};
use crate::script;
use crate::site::Site;
use crate::watch::{Usage, usage};

/// Longest time until all streams are open, beside what the ramp asks for.
const OPEN_WITHIN: Duration = Duration::from_mins(3);
/// Messages posted to each room before streams are weighed: with them a server gives back what it took for its start, which
/// would be taken off the streams otherwise.
const SETTLING: u64 = 200;
/// Longest time until every stream has caught up with what was posted.
const CATCH_UP_WITHIN: Duration = Duration::from_mins(2);
/// Longest time to post what history is read from, or what is missed.
const POST_WITHIN: Duration = Duration::from_mins(15);
/// Longest time from the last answer until all of it is stored.
const STORE_WITHIN: Duration = Duration::from_mins(5);
/// Servers are at rest when so long no process has grown or shrunk by more than one part in [`REST_PARTS`]; and the longest
/// time that this is waited for.
const REST: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(20));
const REST_PARTS: u64 = 100;
/// How often servers are looked at meanwhile.
const REST_LOOK: Duration = Duration::from_millis(500);
/// Longest time until the sockets of all streams that stall are full; what is posted in it must be more than kernels take.
const FULL_WITHIN: Duration = Duration::from_secs(30);
/// Sockets are full when they hold something, and so long nothing has changed.
const FULL_FOR: Duration = Duration::from_secs(1);
/// How often the steps look how far the threads are.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Puts the load of `plan` on `site`, whose rooms are empty.
pub async fn run(plan: &Plan, site: &Site, progress: &Progress) -> Result<Figures> {
    if let Some(complaint) = plan.complaint() {
        return Err(Failure::new(complaint));
    }
    let crew = Crew::new(plan, site);
    Run { plan, crew, progress }.steps().await
}

struct Run<'a> {
    plan: &'a Plan,
    crew: Crew,
    progress: &'a Progress,
}

/// What the load between opening and ending came to.
#[derive(Default)]
struct Load {
    windows: Vec<Window>,
    answers: Vec<Latencies>,
    caught_up_s: Option<f64>,
    stalled: Option<Stalled>,
    reads: Option<Reads>,
    behind: usize,
}

impl Run<'_> {
    async fn steps(mut self) -> Result<Figures> {
        if self.plan.filling() > 0 {
            self.post("filling", self.plan.filling()).await?;
            self.stored(self.plan.filling()).await?;
        }
        if self.plan.weighs_streams {
            self.post("settling", SETTLING).await?;
        }
        let (before, was_still) = self.rest().await;
        self.crew.start_readers();
        let opened_s = self.open(self.plan.streams).await?;
        let (open, is_still) = self.rest().await;
        let load = match self.plan.missed {
            Some(missed) => self.resume(missed).await?,
            None => self.load().await?,
        };
        let after = usage(&self.crew.site.processes);
        let seen = self.crew.end().await?;
        self.progress.clear();
        let weighed = (self.plan.weighs_streams && was_still && is_still).then_some(self.plan.streams);
        let memory = Memory::of(&before, &open, &after, weighed);
        let mut figures = self.figures(opened_s, memory, load, &seen);
        figures.is_restless = self.plan.weighs_streams && weighed.is_none();
        Ok(figures)
    }

    /// Opens so many streams; returns how many seconds it took.
    async fn open(&self, streams: usize) -> Result<f64> {
        self.progress.step("opening", streams as u64);
        let began = Instant::now();
        let ramp_s = self.plan.ramp.map_or(0, |per_s| streams / per_s.max(1));
        let within = OPEN_WITHIN + Duration::from_secs(u64::try_from(ramp_s)?);
        self.until(within, "all streams are open", || {
            let may_open = match self.plan.ramp {
                Some(per_s) => usize::try_from(began.elapsed().as_millis())? * per_s / 1_000,
                None => streams,
            };
            self.crew.orders.may_open.store(may_open.min(streams), Ordering::Relaxed);
            let reading = self.crew.reading();
            self.progress.at(reading.open as u64, || format!("{} of {streams} streams", reading.open));
            if reading.lost > 0 || began.elapsed() > within {
                let reason = reading.refusal.unwrap_or_default();
                let wanting = streams - reading.open;
                return Err(Failure::new(format!("{wanting} of {streams} streams could not be opened: {reason}")));
            }
            Ok(reading.open == streams)
        })
        .await?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Load, and the windows in it.
    async fn load(&self) -> Result<Load> {
        let callers = self.crew.start_work();
        self.pass("warming up", self.plan.warm_up, callers.as_ref()).await?;
        let mut load = Load::default();
        for number in 1..=self.plan.windows() {
            if number == 2 {
                self.crew.orders.stalling.store(true, Ordering::Relaxed);
                self.stall().await?;
            }
            load.windows.push(self.window(number, callers.as_ref()).await?);
        }
        if self.plan.stalled_percent > 0 {
            load.stalled = queues(&self.crew.site).map(|queues| Stalled::of(self.plan, &queues));
        }
        if let Some(callers) = callers {
            load.answers = callers.end().await?.latencies;
        }
        self.catch_up(&mut load).await;
        Ok(load)
    }

    /// Waits until the gateways can write nothing more to those who stall: until then nothing is proved. On another machine
    /// that cannot be seen, and some time has to do.
    async fn stall(&self) -> Result<()> {
        let Some(mut before) = queues(&self.crew.site) else {
            return self.pass("stalling", FULL_WITHIN, None).await;
        };
        self.progress.step("stalling", 1);
        let mut look_at = Instant::now() + FULL_FOR;
        self.until(FULL_WITHIN, "the sockets of all who stall are full", || {
            if Instant::now() < look_at {
                return Ok(false);
            }
            let now: Queues = queues(&self.crew.site).unwrap_or_default();
            let is_full = now.values().all(|bytes| *bytes > 0) && now == before;
            (before, look_at) = (now, Instant::now() + FULL_FOR);
            Ok(is_full)
        })
        .await
    }

    /// All streams are cut, miss `missed` messages in each room, and come back.
    async fn resume(&self, missed: u64) -> Result<Load> {
        let orders = &self.crew.orders;
        orders.away.store(true, Ordering::Relaxed);
        self.until(CATCH_UP_WITHIN, "all streams are cut", || Ok(self.crew.reading().open == 0)).await?;
        self.post("posting", missed).await?;
        // What was accepted a moment ago is not what a client misses who comes back later: let it be stored.
        self.rest().await;
        let mut load = Load::default();
        let logs = Logs::mark(&self.crew.site.logs)?;
        orders.returned.store(self.crew.clock.micros(), Ordering::Relaxed);
        orders.away.store(false, Ordering::Relaxed);
        self.catch_up(&mut load).await;
        load.reads = logs.reads(self.plan.rooms)?;
        Ok(load)
    }

    /// Posts `messages` to each room, and waits until they are accepted.
    async fn post(&self, step: &'static str, messages: u64) -> Result<()> {
        let (scripts, each) = script::filling(self.plan, &self.crew.site, messages);
        let total = scripts.len() as u64 * each;
        let pace = Pace {
            limit_each: Some(each),
            ..Pace::default()
        };
        let callers = self.crew.start_callers(scripts, pace);
        self.progress.step(step, total);
        self.until(POST_WITHIN, "all is posted", || {
            let answered = self.crew.calling().answered;
            self.progress.at(answered, || format!("{answered} of {total} messages"));
            Ok(callers.have_ended())
        })
        .await?;
        callers.end().await?;
        let Calling { answered, refusal, .. } = self.crew.calling();
        if answered < total {
            let refusal = refusal.unwrap_or_default();
            return Err(Failure::new(format!("only {answered} of {total} messages were accepted: {refusal}")));
        }
        Ok(())
    }

    /// Waits until history holds `messages` of each room: not before can it be read as it is meant.
    async fn stored(&self, messages: u64) -> Result<()> {
        let site = &self.crew.site;
        let client = ApiClient::at(&format!("http://{}", site.door(0)))?;
        self.progress.step("storing", site.rooms.len() as u64);
        for (number, room) in site.rooms.iter().enumerate() {
            let token = site.tokens.get(site.users_of_room(number).start);
            let reader = client.with_token(token.map(String::as_str).unwrap_or_default());
            eventually(STORE_WITHIN, "all that was posted is stored", async || {
                let newest =
                    reader.history(room, "?limit=1").await?.first().and_then(|message| message["seq"].as_u64());
                match newest.unwrap_or(0) {
                    seq if seq >= messages => Ok(()),
                    seq => Err(Failure::new(format!("{seq} of {messages} messages of {room} are stored"))),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until every stream that reads has what its room holds; notes who has not in the end.
    async fn catch_up(&self, load: &mut Load) {
        self.crew.orders.judgement.store(1, Ordering::Relaxed);
        let began = Instant::now();
        let streams = self.plan.streams;
        self.progress.step("catching up", streams as u64);
        let ended = self.until(CATCH_UP_WITHIN, "every stream has every message", || {
            let behind = self.crew.behind(1);
            let done = streams - behind.unwrap_or(streams);
            self.progress.at(done as u64, || format!("{done} of {streams} streams"));
            Ok(behind == Some(0))
        });
        load.caught_up_s = ended.await.is_ok().then(|| began.elapsed().as_secs_f64());
        load.behind = self.crew.behind(1).unwrap_or(streams);
    }

    async fn window(&self, number: usize, callers: Option<&Callers>) -> Result<Window> {
        let look = || (self.crew.reading(), self.crew.calling(), usage(&self.crew.site.processes));
        self.crew.orders.window.store(number, Ordering::Relaxed);
        let (began, (reading, calling, usage)) = (Instant::now(), look());
        self.pass("measuring", self.plan.window, callers).await?;
        let (seconds, (reading_now, calling_now, usage_now)) = (began.elapsed().as_secs_f64(), look());
        self.crew.orders.window.store(0, Ordering::Relaxed);
        let deliveries = reading_now.deliveries - reading.deliveries;
        let requests = calling_now.answered - calling.answered;
        let mut window = Window::new(seconds, deliveries, requests, &usage, &usage_now);
        let share = |busy_us: u64| Duration::from_micros(busy_us).as_secs_f64() / seconds;
        window.reader_busy = share(reading_now.busy_us.saturating_sub(reading.busy_us));
        window.caller_busy = share(calling_now.busy_us.saturating_sub(calling.busy_us));
        window.stalled_percent = if number == 2 { self.plan.stalled_percent } else { 0 };
        Ok(window)
    }

    /// Waits until the servers have come to rest, and tells what they have taken, and whether they had.
    async fn rest(&self) -> (Vec<Usage>, bool) {
        let (still_for, within) = REST;
        // Streams are weighed by the first process; what small ones share with others on the machine is never still.
        let watched = if self.plan.weighs_streams { 1 } else { usize::MAX };
        let deadline = Instant::now() + within;
        let look = || (Instant::now(), usage(&self.crew.site.processes));
        let (mut since, mut before) = look();
        loop {
            sleep(REST_LOOK).await;
            let (at, now) = look();
            let is_still = |(before, now): (&Usage, &Usage)| {
                now.resident_kib.abs_diff(before.resident_kib) <= before.resident_kib / REST_PARTS
            };
            if !before.iter().zip(&now).take(watched).all(is_still) {
                (since, before) = (at, now);
            } else if at - since >= still_for {
                return (now, true);
            }
            if at > deadline {
                return (look().1, false);
            }
        }
    }

    /// Lets `time` pass under load.
    async fn pass(&self, name: &'static str, time: Duration, callers: Option<&Callers>) -> Result<()> {
        self.progress.step(name, millis(time));
        let began = Instant::now();
        while began.elapsed() < time {
            if callers.is_some_and(Callers::have_ended) {
                let refusal = self.crew.calling().refusal.unwrap_or_default();
                return Err(Failure::new(format!("the callers ended before their time {refusal}")));
            }
            let (deliveries, answered) = (self.crew.reading().deliveries, self.crew.calling().answered);
            let message = || format!("{answered} requests, {deliveries} deliveries");
            self.progress.at(millis(began.elapsed()), message);
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

    fn figures(&self, opened_s: f64, memory: Vec<Memory>, mut load: Load, seen: &[Seen]) -> Figures {
        for (number, window) in load.windows.iter_mut().enumerate() {
            let times = Latencies::merged(seen.iter().filter_map(|seen| seen.latencies.get(number)));
            window.post_to_event_ms = times.percentiles();
            window.answer_ms = load.answers.get(number).and_then(Latencies::percentiles);
        }
        let (reading, calling) = (self.crew.reading(), self.crew.calling());
        let catch_up = Latencies::merged(seen.iter().map(|seen| &seen.catch_up)).percentiles();
        Figures {
            server: self.crew.site.dialect.name().to_owned(),
            streams: self.plan.streams,
            rooms: self.plan.rooms,
            text: self.plan.text,
            messages: self.plan.filling(),
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
            behind: load.behind,
            missing: reading.faults.missing,
            doubled: reading.faults.doubled,
            misplaced: reading.faults.misplaced,
            resets: reading.faults.resets,
            returns: reading.returns,
            refused: calling.refused,
            broken: calling.broken,
        }
    }
}
