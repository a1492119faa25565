//! `loadtest` with streams of all rooms of a user.

use std::time::Duration;

use loadtest::{Figures, Plan, Preset, Progress, UserRooms, Work, prepare, prepare_population, run_on_stack};
use rig::{Backend, Stack};

/// A load of few users that any machine carries besides other tests.
fn small(work: Work) -> Plan {
    Plan {
        streams: 20,
        rooms: 30,
        user_rooms: Some(UserRooms::of(8)),
        work,
        warm_up: Duration::from_millis(200),
        window: Duration::from_secs(1),
        threads: 2,
        ..Preset::Latency.plan()
    }
}

/// Runs `plan` on an installation of its own, whose users are written into the database.
async fn measure(plan: &Plan, backend: Backend) -> Figures {
    let builder = Stack::builder().without_limits().backend(backend).gateways(2).logging_statements();
    let mut stack = builder.start().await.unwrap();
    let mut prepared = prepare_population(plan, &stack).await.unwrap();
    stack.renew_gateways().await.unwrap();
    prepared.watch_processes(stack.processes().unwrap());
    let logs = stack.gateways.iter().map(|gateway| gateway.process.log_file().to_owned());
    prepared.watch_statement_logs(logs.collect());
    run_on_stack(plan, &prepared.target, &mut stack, &Progress::silent()).await.unwrap()
}

async fn check_users(backend: Backend) {
    let figures = measure(&small(Work::Rate(60.0)), backend).await;
    assert!(figures.is_correct() && figures.refused.is_empty(), "{}", figures.table());
    let window = &figures.windows[0];
    assert!(window.deliveries > window.requests && window.statements_per_s.is_some(), "{}", figures.table());
    assert!(window.post_to_event_ms.is_some_and(|times| times.samples > 0), "{}", figures.table());
}

#[tokio::test]
async fn streams_of_users_bring_all_their_rooms() {
    check_users(Backend::Sqlite).await;
}

#[tokio::test]
async fn streams_of_users_bring_all_their_rooms_on_postgres() {
    check_users(Backend::Postgres).await;
}

#[tokio::test]
async fn streams_of_users_catch_up_with_gateways_that_keep_nothing() {
    let plan = Plan {
        missed: Some(40),
        restarts: true,
        ..small(Work::Flood(4))
    };
    let figures = measure(&plan, Backend::Sqlite).await;
    assert!(figures.is_correct() && figures.caught_up_s.is_some(), "{}", figures.table());
    assert!(figures.catch_up_ms.is_some_and(|times| times.samples == 20), "{}", figures.table());
}

#[tokio::test]
async fn messages_are_timed_without_and_with_typing() {
    let plan = Plan {
        rooms: 1,
        user_rooms: Some(UserRooms::of(1)),
        warm_up: Duration::from_secs(1),
        typing_every: Some(Duration::from_millis(500)),
        ..small(Work::Rate(20.0))
    };
    let figures = measure(&plan, Backend::Sqlite).await;
    assert!(
        figures.is_correct() && figures.refused.is_empty() && figures.typing.is_some(),
        "{}",
        figures.table()
    );
    let types: Vec<bool> = figures.windows.iter().map(|window| window.typing.is_some()).collect();
    assert_eq!(types, [false, true, false, true]);
    for window in &figures.windows {
        assert!(window.post_to_event_ms.is_some(), "{}", figures.table());
        if let Some(calls) = &window.typing {
            assert!(calls.statuses.keys().eq(&[204]) && window.typing_events > 0, "{}", figures.table());
        }
    }
}

#[tokio::test]
async fn users_catch_up_by_calls() {
    let sync = Preset::Sync.plan();
    let plan = Plan {
        streams: 5,
        rooms: 30,
        user_rooms: sync.user_rooms.map(|user_rooms| UserRooms { each: 20, ..user_rooms }),
        work: Work::Sync {
            connections: 2,
            calls: 10,
        },
        ..sync
    };
    let figures = measure(&plan, Backend::Sqlite).await;
    let sync = figures.sync.as_ref().unwrap();
    for calls in [sync.cold, sync.changed, sync.ready] {
        assert!(calls.ms.samples == 10 && calls.statements.is_some(), "{}", figures.table());
    }
}

#[tokio::test]
async fn users_of_an_installation_that_runs_join_by_calls() {
    let mut stack = Stack::builder().without_limits().start().await.unwrap();
    let plan = Plan {
        streams: 5,
        rooms: 10,
        user_rooms: Some(UserRooms::of(3)),
        ..small(Work::Rate(20.0))
    };
    let prepared = prepare(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    let figures = run_on_stack(&plan, &prepared.target, &mut stack, &Progress::silent()).await.unwrap();
    prepared.delete_rooms().await.unwrap();
    assert!(figures.is_correct() && figures.windows[0].deliveries > 0, "{}", figures.table());
}
