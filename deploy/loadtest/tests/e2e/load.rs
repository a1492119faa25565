//! `loadtest` checks every client correctly, and its figures are those of the load.

use std::time::Duration;

use loadtest::{Pages, Plan, Preset, Progress, SyntheticServer, Work, prepare, run};
use rig::Stack;

/// A load that any machine carries besides other tests.
fn small(streams: usize, rooms: usize, work: Work) -> Plan {
    Plan {
        streams,
        rooms,
        work,
        warm_up: Duration::from_millis(200),
        window: Duration::from_secs(1),
        threads: 2,
        ..Preset::Latency.plan()
    }
}

#[tokio::test]
async fn a_load_is_measured_and_no_message_is_missing() {
    let stack = Stack::builder().without_limits().start().await.unwrap();
    let plan = small(50, 5, Work::Rate(100.0));
    let mut prepared = prepare(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    prepared.watch_processes(stack.processes().unwrap());
    let figures = run(&plan, &prepared.target, &Progress::silent()).await.unwrap();
    prepared.delete_rooms().await.unwrap();
    assert!(figures.is_correct(), "{}", figures.table());
    assert!(figures.refused.is_empty() && figures.broken == 0, "{}", figures.table());
    let window = &figures.windows[0];
    assert!(window.requests > 0 && window.deliveries > 0, "{}", figures.table());
    assert!(window.post_to_event_ms.is_some_and(|times| times.samples > 0 && times.p50 > 0.0));
    let watched: Vec<&str> = window.processes.iter().map(|cpu| cpu.name.as_str()).collect();
    assert_eq!(watched, ["gateway-1", "worker", "redis", "loadtest"]);
}

#[tokio::test]
async fn disconnected_streams_catch_up() {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let plan = Plan {
        missed: Some(30),
        ..small(40, 4, Work::Flood(6))
    };
    let prepared = prepare(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    let figures = run(&plan, &prepared.target, &Progress::silent()).await.unwrap();
    assert!(figures.is_correct() && figures.caught_up_s.is_some(), "{}", figures.table());
    assert!(figures.catch_up_ms.is_some_and(|times| times.samples == 40), "{}", figures.table());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sockets_of_stalled_streams_become_full() {
    let stack = Stack::builder().without_limits().start().await.unwrap();
    let plan = Plan {
        stalled_percent: 20,
        text: 4_000,
        ..small(50, 1, Work::Rate(40.0))
    };
    let prepared = prepare(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    let figures = run(&plan, &prepared.target, &Progress::silent()).await.unwrap();
    assert!(figures.is_correct() && figures.windows.len() == 2, "{}", figures.table());
    let stalled = figures.stalled.as_ref().unwrap();
    assert!(stalled.streams > 0 && stalled.full == stalled.streams, "{}", figures.table());
}

#[tokio::test]
async fn history_is_read_once_stored_and_pages_are_complete() {
    let stack = Stack::builder().without_limits().start().await.unwrap();
    for (streams, pages) in [(0, Pages::Any), (5, Pages::Newest(20.0))] {
        let work = Work::History {
            connections: 2,
            messages: 150,
            pages,
        };
        let plan = small(streams, 1, work);
        let prepared = prepare(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
        let figures = run(&plan, &prepared.target, &Progress::silent()).await.unwrap();
        assert!(figures.is_valid() && figures.windows[0].requests > 0, "{}", figures.table());
        assert_eq!(figures.windows[0].deliveries > 0, streams > 0, "{}", figures.table());
    }
}

#[tokio::test]
async fn default_limits_refuse_no_request() {
    let stack = Stack::start().await.unwrap();
    let plan = small(110, 5, Work::Rate(20.0));
    let prepared = prepare(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    let figures = run(&plan, &prepared.target, &Progress::silent()).await.unwrap();
    assert!(figures.is_correct() && figures.refused.is_empty(), "{}", figures.table());
}

#[tokio::test]
async fn a_lost_event_is_found() {
    let plan = small(20, 1, Work::Silence);
    for (omitted_seq, missing) in [(None, 0), (Some(1_000), 20)] {
        let server = SyntheticServer::start(plan.streams, plan.text, omitted_seq).unwrap();
        let figures = run(&plan, &server.target(), &Progress::silent()).await.unwrap();
        assert_eq!(figures.missing, missing, "{}", figures.table());
        assert_eq!(figures.is_correct(), missing == 0);
    }
}
