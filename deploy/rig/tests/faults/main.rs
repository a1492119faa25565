//! A slice of the matrix of faults, short enough for every run of the tests: seeded traffic, everything is killed and cut
//! at least once, and the oracle judges all of it. `make soak` runs the whole matrix.
//!
//! The seed is fixed, so that a run that fails can be repeated; `ROOMCAST_SEED` sets another one.

#![expect(
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails, and unwrap says where"
)]

use std::time::Duration;

use rig::faults;
use rig::field::{Field, Outcome};
use rig::oracle::{Bounds, Invariant};
use rig::{Backend, Plan, Stack};
use tokio::time::sleep;

/// What is promised in seconds is for the matrix to prove, which has the machine for itself: beside other tests only a hang
/// is a failure.
const BOUNDS: Bounds = Bounds {
    removal: Duration::from_secs(9),
    memory_kib: 400 * 1024,
    post: Duration::from_millis(7_900),
};

/// How long nothing strikes at first.
const CALM: Duration = Duration::from_secs(3);

fn plan() -> Plan {
    let seed = std::env::var("ROOMCAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126);
    Plan {
        per_second: 150.0,
        rooms: 8,
        ..Plan::full(seed)
    }
}

fn assert_kept(outcome: &Outcome, seed: u64) {
    let sentences: Vec<String> = outcome.violations.iter().take(20).map(ToString::to_string).collect();
    assert!(
        sentences.is_empty(),
        "ROOMCAST_SEED={seed}: {} violations, evidence in {:?}\n{}",
        outcome.violations.len(),
        outcome.dump,
        sentences.join("\n")
    );
}

/// Kills, cuts and losses of every kind, one after the other, under one traffic.
async fn a_bit_of_everything(backend: Backend) {
    let plan = plan();
    let stack = Stack::builder().without_limits().gateways(2).workers(2).links().disks().backend(backend);
    let mut field = Field::open(stack, plan).await.unwrap();
    // What holds in a storm must hold in calm, too.
    sleep(CALM).await;
    let mix = [
        ("F1", 4),
        ("F2", 3),
        ("F8", 15),
        ("F3", 2),
        ("F5", 1),
        ("F20", 3),
        ("F4", 1),
        ("F10", 3),
        ("F14", 3),
    ];
    for (code, count) in mix {
        faults::find(code).unwrap().strike(&mut field, count).await.unwrap();
        field.stack.mend().await.unwrap();
    }
    let outcome = field.conclude(&BOUNDS).await.unwrap();
    assert!(outcome.evidence.posts.len() > 500, "only {} posts", outcome.evidence.posts.len());
    let (answers, returns) = (outcome.evidence.answered.len(), outcome.evidence.returns.len());
    assert!(answers > 100 && returns > 20, "only {answers} answers to landlords and {returns} returns");
    assert_kept(&outcome, plan.seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_everything_breaks_nothing_on_sqlite() {
    a_bit_of_everything(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_everything_breaks_nothing_on_postgres() {
    a_bit_of_everything(Backend::Postgres).await;
}

/// Everything is stopped, and the database put back to a copy that was made under traffic.
async fn a_restored_database(backend: Backend) {
    // What visitors and landlords do to rooms after the copy is undone with it.
    let plan = Plan {
        visitors: 0,
        returners: 0,
        landlords: 0,
        ..plan()
    };
    let stack = Stack::builder().without_limits().gateways(2).workers(2).backend(backend);
    let mut field = Field::open(stack, plan).await.unwrap();
    faults::find("F19").unwrap().strike(&mut field, 1).await.unwrap();
    let outcome = field.conclude(&BOUNDS).await.unwrap();
    assert_kept(&outcome, plan.seed);
    let resets = outcome.evidence.sessions.iter().filter(|session| session.reset.is_some()).count();
    assert!(resets >= outcome.evidence.arrivals.len(), "only {resets} resets");
    assert_eq!(outcome.evidence.restores.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_sqlite_database_hides_nothing_from_anybody() {
    a_restored_database(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_postgres_database_hides_nothing_from_anybody() {
    a_restored_database(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_syncs_too_seldom_is_found_out() {
    let plan = plan();
    let stack = Stack::builder().without_limits().gateways(2).workers(2).disks();
    let mut field = Field::open(stack, plan).await.unwrap();
    faults::find("F16").unwrap().strike(&mut field, 1).await.unwrap();
    let outcome = field.conclude(&BOUNDS).await.unwrap();
    let lost = outcome.violations.iter().filter(|violation| violation.invariant == Invariant::Kept).count();
    assert!(lost > 0, "ROOMCAST_SEED={}: the oracle found {:?}", plan.seed, outcome.violations);
}
