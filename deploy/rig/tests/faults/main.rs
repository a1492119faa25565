//! A slice of the matrix of faults, short enough for every run of the tests: under seeded traffic everything is killed and
//! cut at least once, and the oracle judges all of it. `make soak` runs the whole matrix.
//!
//! The seed is fixed, so that a run that fails can be repeated; `ROOMCAST_SEED` sets another one.
//!
//! Times are judged too, with a margin for programs that are not optimised: each bound is twice what the full matrix demands (see `SLICE`),
//! and as many times longer as posts take longer on this machine before the first fault than they should. Two runs go on at a time: alone
//! each uses less than one core, and three measure the load of each other. So do two with 150 posts a second.

#![expect(
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails, and unwrap says where"
)]

mod floods;

use std::ops::Range;
use std::time::Duration;

use rig::evidence::{ChangeOutcome, Evidence, MembershipCall, RequestedChange};
use rig::fault_run::{FaultRun, RunOutcome};
use rig::faults;
use rig::measures::{acknowledged_post_times, shown_after, silences};
use rig::oracle::{Bounds, Invariant};
use rig::{Backend, Failure, Stack, TrafficPlan, eventually};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How many runs may go on at a time.
static RUNS: Semaphore = Semaphore::const_new(2);

/// Bounds of what is promised of every run, on a machine on which everything takes `slowness` times as long.
fn bounds(slowness: f64) -> Bounds {
    Bounds {
        // One second is promised, and the full matrix allows 1.5 s: this is twice as long.
        removal: Duration::from_secs(3).mul_f64(slowness),
        // The same as in the full matrix: memory does not depend on the speed of the programs.
        memory_kib: 400 * 1024,
        // Five seconds are promised. A client gives up after 8 s, so a post that takes twice as long is recorded with 8 s, and on a slow
        // machine none is judged.
        post: Duration::from_millis(7_900).mul_f64(slowness),
    }
}

/// Time within which nine of ten posts are acknowledged while nothing is wrong, both runs going on: 62 ms on SQLite and 120 ms on Postgres
/// were measured on two cores. With less than this the bounds are what they are.
const CALM_POST: Duration = Duration::from_millis(200);
/// However slow a machine is, times are judged: a hang is none of its speed.
const MAX_SLOWNESS: f64 = 4.0;

/// How many times longer posts take than they should, before the first fault.
fn slowness(run: &FaultRun) -> f64 {
    let mut times = run.traffic.inspect(|evidence| acknowledged_post_times(evidence, Duration::ZERO));
    times.sort_unstable();
    let of_nine = times.get(times.len() * 9 / 10).copied().unwrap_or_default();
    let slowness = of_nine.div_duration_f64(CALM_POST).clamp(1.0, MAX_SLOWNESS);
    println!(
        "nine of ten posts took at most {of_nine:?} before the first fault: times may be {slowness:.1} times as long"
    );
    slowness
}

/// What the clients must have done, so that the invariants are judged by something.
#[derive(Debug)]
struct WorkDone {
    posts: usize,
    responses_to_recreators: usize,
    rejoins: usize,
    changes: usize,
    replies: usize,
    leaves_of_editors: usize,
}

impl WorkDone {
    fn of(evidence: &Evidence) -> Self {
        let is_acknowledged = |change: &&RequestedChange| change.outcome == ChangeOutcome::Acknowledged;
        Self {
            posts: evidence.posts.len(),
            responses_to_recreators: evidence.room_responses.len(),
            rejoins: evidence.rejoins.len(),
            changes: evidence.edited.changes.iter().filter(is_acknowledged).count(),
            replies: evidence.edited.posts.iter().filter(|post| post.reply_to.is_some()).count(),
            leaves_of_editors: evidence.membership_calls.iter().filter(|call| is_leave_of_editor(call)).count(),
        }
    }

    fn is_enough(&self) -> bool {
        self.posts > 500
            && self.responses_to_recreators > 100
            && self.rejoins > 20
            && self.changes > 50
            && self.replies > 5
            && self.leaves_of_editors > 3
    }
}

/// How long the traffic may go on after the last fault, on a slow machine, until enough was done.
const ENOUGH_WITHIN: Duration = Duration::from_mins(1);

/// How long the traffic runs before the first fault and after the last one.
const QUIET: Duration = Duration::from_secs(3);

/// A fault of the slice, and the bounds of the times that clients see.
#[derive(Debug, Clone, Copy)]
struct TimedFault {
    code: &'static str,
    count: usize,
    /// Longest silence of a room after an injection.
    silence: Duration,
    /// Longest time from the acknowledgement of a message until somebody is shown it, of those acknowledged while the fault
    /// is injected.
    shown: Option<Duration>,
}

const fn fault(code: &'static str, count: usize, silence_ms: u64) -> TimedFault {
    TimedFault {
        code,
        count,
        silence: Duration::from_millis(silence_ms),
        shown: None,
    }
}

const fn shown(fault: TimedFault, shown_ms: u64) -> TimedFault {
    TimedFault {
        shown: Some(Duration::from_millis(shown_ms)),
        ..fault
    }
}

/// The faults, how often each is injected, and the bounds of the times.
///
/// The bound of a silence is twice the 3 s that the matrix demands of a takeover, or twice the p99 that the full matrix measured
/// on two cores where that is longer because the fault itself lasts: 3.8 s after F5, which pauses a worker for up to 4 s, and
/// 3.6 s after F20, which pauses a gateway for up to 3.5 s. The bound of the time until a message is shown is twice what the
/// matrix demands: 2.5 s after F10, and 1 s after F14.
const SLICE: [TimedFault; 9] = [
    fault("F1", 4, 2 * 3_000),
    fault("F2", 3, 2 * 3_000),
    fault("F8", 15, 2 * 3_000),
    fault("F3", 2, 2 * 3_000),
    fault("F5", 1, 2 * 3_800),
    fault("F20", 3, 2 * 3_600),
    fault("F4", 1, 2 * 3_000),
    shown(fault("F10", 3, 2 * 3_000), 2 * 2_500),
    shown(fault("F14", 3, 2 * 3_000), 2 * 1_000),
];

fn plan() -> TrafficPlan {
    let seed = std::env::var("ROOMCAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126);
    TrafficPlan {
        per_second: 90.0,
        rooms: 8,
        editors_per_room: 2,
        edits_per_second: 12.0,
        ..TrafficPlan::full(seed)
    }
}

fn assert_kept(outcome: &RunOutcome, seed: u64) {
    let sentences: Vec<String> = outcome.violations.iter().take(20).map(ToString::to_string).collect();
    assert!(
        sentences.is_empty(),
        "ROOMCAST_SEED={seed}: {} violations, evidence in {:?}\n{}",
        outcome.violations.len(),
        outcome.dump,
        sentences.join("\n")
    );
}

/// The times after a fault that are over its bounds, as sentences; prints the longest of them.
fn late(
    (fault, slowness): (&TimedFault, f64),
    silences: &[Duration],
    evidence: &Evidence,
    interval: &Range<Duration>,
) -> Vec<String> {
    let mut late = Vec::new();
    let mut compare = |what: &str, longest: Option<Duration>, bound: Duration| {
        let bound = bound.mul_f64(slowness);
        println!("{}: {what} {longest:?}, at most {bound:?}", fault.code);
        if longest.is_none_or(|longest| longest > bound) {
            late.push(format!("{}: {what} {longest:?}, over {bound:?}", fault.code));
        }
    };
    compare("the longest silence of a room is", silences.iter().max().copied(), fault.silence);
    if let Some(bound) = fault.shown {
        let longest = shown_after(evidence, interval).into_iter().max();
        compare("the longest way to a stream is", longest, bound);
    }
    late
}

fn is_leave_of_editor(call: &MembershipCall) -> bool {
    !call.joins && call.is_acknowledged && call.username.starts_with("editor-")
}

/// Kills, cuts and losses of every kind, one after the other, under one traffic.
async fn check_slice(backend: Backend) {
    let _run = RUNS.acquire().await.unwrap();
    let plan = plan();
    let stack = Stack::builder().without_limits().gateways(2).workers(2).links().disks().backend(backend);
    let mut run = FaultRun::start(stack, plan).await.unwrap();
    // Promises must be kept without faults, too.
    sleep(QUIET).await;
    let slowness = slowness(&run);
    let mut injected = Vec::new();
    for fault in &SLICE {
        let (from, first) = (run.traffic.now(), run.injections.len());
        faults::find(fault.code).unwrap().inject(&mut run, fault.count).await.unwrap();
        run.stack.recover().await.unwrap();
        injected.push((fault, first..run.injections.len(), from..run.traffic.now()));
    }
    // Messages of this time end the silences after the last injection.
    sleep(QUIET).await;
    eventually(ENOUGH_WITHIN, "the clients have done enough", async || {
        let done = run.traffic.inspect(WorkDone::of);
        if done.is_enough() {
            Ok(())
        } else {
            Err(Failure::new(format!("only {done:?}")))
        }
    })
    .await
    .unwrap();
    let until = run.traffic.now();
    let outcome = run.finish(&bounds(slowness)).await.unwrap();
    let evidence = &outcome.evidence;
    let silences = silences(evidence, &outcome.injections, until);
    assert_eq!(silences.len(), outcome.injections.len(), "a room received nothing");
    let late: Vec<String> = injected
        .into_iter()
        .flat_map(|(fault, numbers, interval)| late((fault, slowness), &silences[numbers], evidence, &interval))
        .collect();
    println!("{}", outcome.notes.join("\n"));
    assert_kept(&outcome, plan.seed);
    assert!(late.is_empty(), "ROOMCAST_SEED={}:\n{}", plan.seed, late.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slice_of_all_faults_breaks_nothing_on_sqlite() {
    check_slice(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slice_of_all_faults_breaks_nothing_on_postgres() {
    check_slice(Backend::Postgres).await;
}

/// Everything is stopped, and the database is put back to a copy that was made under traffic.
async fn check_restore(backend: Backend) {
    let _run = RUNS.acquire().await.unwrap();
    // What room recreators and others do to rooms after the copy is undone with it.
    let plan = TrafficPlan {
        transient_readers: 0,
        rejoiners: 0,
        room_recreators: 0,
        ..plan()
    };
    let stack = Stack::builder().without_limits().gateways(2).workers(2).backend(backend);
    let mut run = FaultRun::start(stack, plan).await.unwrap();
    faults::find("F19").unwrap().inject(&mut run, 1).await.unwrap();
    let outcome = run.finish(&bounds(1.0)).await.unwrap();
    assert_kept(&outcome, plan.seed);
    let resets = outcome.evidence.streams.iter().filter(|stream| stream.reset.is_some()).count();
    assert!(resets >= outcome.evidence.final_positions.len(), "only {resets} resets");
    assert_eq!(outcome.evidence.restores.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_sqlite_database_resets_every_subscriber() {
    check_restore(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_postgres_database_resets_every_subscriber() {
    check_restore(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_by_a_redis_that_syncs_too_seldom_is_found() {
    let _run = RUNS.acquire().await.unwrap();
    let plan = plan();
    let stack = Stack::builder().without_limits().gateways(2).workers(2).disks();
    let mut run = FaultRun::start(stack, plan).await.unwrap();
    faults::find("F16").unwrap().inject(&mut run, 1).await.unwrap();
    let outcome = run.finish(&bounds(1.0)).await.unwrap();
    let lost = outcome.violations.iter().filter(|violation| violation.invariant == Invariant::Kept).count();
    assert!(lost > 0, "ROOMCAST_SEED={}: the oracle found {:?}", plan.seed, outcome.violations);
}
