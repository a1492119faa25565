//! The worker is killed between any two of its steps: nothing is lost, doubled or reordered.

use std::time::Duration;

use rig::{App, Event, EventStream, Ledger, Stack, check_dense};
use serde_json::Value;

use crate::scene::{SOON, busy_lobby, furnish};

/// "Shown within 2 s", with air for a machine that is busy with other tests.
const HEALED_WITHIN: Duration = Duration::from_secs(4);

async fn post_some(app: &App, ledger: &mut Ledger, label: &str, count: usize) {
    for number in 0..count {
        let text = format!("{label} {number}");
        let id = app.post("lobby", &text).await.unwrap();
        ledger.acknowledge(id, text);
    }
}

/// Checks that history holds what was acknowledged, and that the stream showed exactly that.
async fn assert_complete(app: &App, ledger: &Ledger, stream: &mut EventStream, seen: &mut Vec<Event>) {
    seen.extend(stream.messages(ledger.len() - seen.len(), SOON).await.unwrap());
    let seen: Vec<Value> = seen.iter().map(|event| event.json().unwrap()).collect();
    check_dense(&seen, 1).unwrap();
    let history = app.whole_history("lobby").await.unwrap();
    ledger.check(&history).unwrap();
    assert_eq!(history, seen);
}

async fn killed_at(step: &str) {
    let (mut stack, ann) = busy_lobby().await;
    let mut ledger = Ledger::default();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    post_some(&ann, &mut ledger, "before", 3).await;
    let mut seen = stream.messages(3, SOON).await.unwrap();

    stack.worker.restart_to_park_at(step).await.unwrap();
    post_some(&ann, &mut ledger, "at the step", 5).await;
    stack.worker.wait_parked(SOON).await.unwrap();
    post_some(&ann, &mut ledger, "while it hangs", 3).await;
    stack.worker.replace_parked().unwrap();

    // What was accepted shows without further traffic.
    seen.extend(stream.messages(8, SOON).await.unwrap());
    post_some(&ann, &mut ledger, "after", 3).await;
    assert_complete(&ann, &ledger, &mut stream, &mut seen).await;

    let waiting = async || match stack.redis.waiting_entries().await? {
        0 => Ok(()),
        left => Err(rig::Failure::new(format!("{left} entries are left"))),
    };
    rig::eventually(SOON, "the accept log is trimmed to what is not stored", waiting).await.unwrap();
    let mut database = stack.database().await.unwrap();
    database.check_integrity().await.unwrap();
    assert_eq!(database.dead_letters().await.unwrap(), 0);
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_worker_killed_after_reading_changes_nothing() {
    killed_at("after_read").await;
}

#[tokio::test]
async fn a_worker_killed_inside_its_transaction_changes_nothing() {
    killed_at("before_commit").await;
}

#[tokio::test]
async fn a_worker_killed_after_its_commit_changes_nothing() {
    killed_at("after_commit").await;
}

#[tokio::test]
async fn a_worker_killed_after_publishing_changes_nothing() {
    killed_at("after_publish").await;
}

#[tokio::test]
async fn a_worker_killed_after_trimming_changes_nothing() {
    killed_at("after_trim").await;
}

#[tokio::test]
async fn what_is_stored_shows_on_open_streams_even_if_nobody_tells_the_gateway() {
    let (mut stack, ann) = busy_lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    stack.worker.restart_to_park_at("after_commit").await.unwrap();
    let id = ann.post("lobby", "stored and not published").await.unwrap();
    stack.worker.wait_parked(SOON).await.unwrap();
    // The worker hangs and no other message comes: only the gateway itself can find out.
    let event = stream.message(HEALED_WITHIN).await.unwrap();
    assert_eq!(event.json().unwrap()["id"], id.as_str());
}

#[tokio::test]
async fn garbage_in_the_accept_log_is_set_aside_and_stops_nothing() {
    const PARTITIONS: usize = 16;
    let (stack, ann) = busy_lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    for partition in 0..PARTITIONS {
        for garbage in [&b"x"[..], b"\xff\0\r\n", b"{\"seq\":1}"] {
            let log = stack.accept_stream(partition).await.unwrap();
            stack.redis.append_garbage(&log, garbage).await.unwrap();
        }
    }
    let mut ledger = Ledger::default();
    post_some(&ann, &mut ledger, "after the garbage", 3).await;
    assert_complete(&ann, &ledger, &mut stream, &mut Vec::new()).await;
    let mut database = stack.database().await.unwrap();
    let set_aside = rig::eventually(SOON, "all garbage is set aside", async || match database.dead_letters().await? {
        count if usize::try_from(count)? == 3 * PARTITIONS => Ok(()),
        count => Err(rig::Failure::new(format!("{count} dead letters"))),
    });
    set_aside.await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn kills_at_any_moment_under_posting_change_nothing() {
    const KILLS: usize = 3;
    const BETWEEN_KILLS: usize = 60;
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let (mut stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut stream = elsewhere.stream("lobby").open().await.unwrap();
    let mut ledger = Ledger::default();
    for kill in 0..KILLS {
        post_some(&ann, &mut ledger, &format!("before kill {kill}"), BETWEEN_KILLS).await;
        stack.worker.kill().unwrap();
        post_some(&elsewhere, &mut ledger, &format!("after kill {kill}"), BETWEEN_KILLS).await;
        stack.worker.start().unwrap();
    }
    assert_complete(&ann, &ledger, &mut stream, &mut Vec::new()).await;
    stack.wait_ready().await.unwrap();
}

#[tokio::test]
async fn a_second_worker_stands_by_and_a_paused_one_does_no_harm_when_it_wakes() {
    let (stack, ann) = busy_lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let mut ledger = Ledger::default();
    let mut second = stack.another_worker("worker-2").unwrap();
    second.start().unwrap();
    post_some(&ann, &mut ledger, "of the first", 5).await;
    let mut seen = stream.messages(5, SOON).await.unwrap();

    stack.worker.service.pause().unwrap();
    post_some(&ann, &mut ledger, "of the second", 5).await;
    seen.extend(stream.messages(5, SOON).await.unwrap());
    stack.worker.service.resume().unwrap();
    post_some(&ann, &mut ledger, "of whoever", 20).await;
    assert_complete(&ann, &ledger, &mut stream, &mut seen).await;

    second.kill().unwrap();
    post_some(&ann, &mut ledger, "of the first again", 5).await;
    assert_complete(&ann, &ledger, &mut stream, &mut seen).await;
}
