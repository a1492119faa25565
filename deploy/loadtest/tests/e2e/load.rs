//! The load tool judges every client rightly, and measures what it says.

use std::time::Duration;

use loadtest::{Fountain, Pages, Plan, Preset, Progress, Work, furnish, run};
use rig::Stack;

/// A load that any machine carries beside other tests.
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
async fn a_load_on_a_stack_is_measured_and_nothing_is_missing() {
    let stack = Stack::builder().without_limits().start().await.unwrap();
    let plan = small(50, 5, Work::Rate(100.0));
    let mut furnished = furnish(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    furnished.watch(stack.processes().unwrap());
    let figures = run(&plan, &furnished.site, &Progress::silent()).await.unwrap();
    furnished.clear().await.unwrap();
    assert!(figures.is_right(), "{}", figures.table());
    assert!(figures.refused.is_empty() && figures.broken == 0, "{}", figures.table());
    let window = &figures.windows[0];
    assert!(window.requests > 0 && window.deliveries > 0, "{}", figures.table());
    assert!(window.post_to_event_ms.is_some_and(|times| times.samples > 0 && times.p50 > 0.0));
    let watched: Vec<&str> = window.processes.iter().map(|cpu| cpu.name.as_str()).collect();
    assert_eq!(watched, ["gateway-1", "worker", "redis", "loadtest"]);
}

#[tokio::test]
async fn streams_that_are_cut_catch_up() {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let plan = Plan {
        missed: Some(30),
        ..small(40, 4, Work::Flood(6))
    };
    let furnished = furnish(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    let figures = run(&plan, &furnished.site, &Progress::silent()).await.unwrap();
    assert!(figures.is_right() && figures.caught_up_s.is_some(), "{}", figures.table());
    assert!(figures.catch_up_ms.is_some_and(|times| times.samples == 40), "{}", figures.table());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nothing_more_can_be_written_to_those_who_stall() {
    let stack = Stack::builder().without_limits().start().await.unwrap();
    let plan = Plan {
        stalled_percent: 20,
        text: 4_000,
        ..small(50, 1, Work::Rate(40.0))
    };
    let furnished = furnish(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    let figures = run(&plan, &furnished.site, &Progress::silent()).await.unwrap();
    assert!(figures.is_right() && figures.windows.len() == 2, "{}", figures.table());
    let stalled = figures.stalled.as_ref().unwrap();
    assert!(stalled.streams > 0 && stalled.full == stalled.streams, "{}", figures.table());
}

#[tokio::test]
async fn history_is_read_when_all_of_it_is_stored_and_answers_are_whole() {
    let stack = Stack::builder().without_limits().start().await.unwrap();
    for (streams, pages) in [(0, Pages::Any), (5, Pages::Newest(20.0))] {
        let work = Work::History {
            connections: 2,
            messages: 150,
            pages,
        };
        let plan = small(streams, 1, work);
        let furnished = furnish(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
        let figures = run(&plan, &furnished.site, &Progress::silent()).await.unwrap();
        assert!(figures.is_sound() && figures.windows[0].requests > 0, "{}", figures.table());
        assert_eq!(figures.windows[0].deliveries > 0, streams > 0, "{}", figures.table());
    }
}

#[tokio::test]
async fn what_an_unmodified_gateway_allows_is_enough() {
    let stack = Stack::start().await.unwrap();
    let plan = small(110, 5, Work::Rate(20.0));
    let furnished = furnish(&plan, &stack.gateway_urls(), 0, &[]).await.unwrap();
    let figures = run(&plan, &furnished.site, &Progress::silent()).await.unwrap();
    assert!(figures.is_right() && figures.refused.is_empty(), "{}", figures.table());
}

#[tokio::test]
async fn an_event_that_is_lost_is_found() {
    let plan = small(20, 1, Work::Silence);
    for (lost, missing) in [(None, 0), (Some(1_000), 20)] {
        let fountain = Fountain::start(plan.streams, plan.text, lost).unwrap();
        let figures = run(&plan, &fountain.site(), &Progress::silent()).await.unwrap();
        assert_eq!(figures.missing, missing, "{}", figures.table());
        assert_eq!(figures.is_right(), missing == 0);
    }
}
