//! The worker is killed between any two of its steps: nothing is lost, doubled or reordered.

use std::time::Duration;

use rig::{AcknowledgedMessages, ApiClient, EventStream, SseEvent, Stack, check_dense_seqs};
use serde_json::Value;

use crate::fixture::{FIRST, SOON, lobby_without_rates, with_lobby};

/// "Shown within 2 s", with a margin for a machine that is busy with other tests.
const SHOWN_WITHIN: Duration = Duration::from_secs(4);

async fn post_some(client: &ApiClient, acknowledged: &mut AcknowledgedMessages, label: &str, count: usize) {
    for number in 0..count {
        let text = format!("{label} {number}");
        let id = client.post("lobby", &text).await.unwrap();
        acknowledged.add(id, text);
    }
}

/// Checks that history holds what was acknowledged, and that the stream showed exactly that.
async fn assert_complete(
    client: &ApiClient,
    acknowledged: &AcknowledgedMessages,
    stream: &mut EventStream,
    seen: &mut Vec<SseEvent>,
) {
    seen.extend(stream.messages(acknowledged.len() - seen.len(), SOON).await.unwrap());
    let seen: Vec<Value> = seen.iter().map(|event| event.json().unwrap()).collect();
    check_dense_seqs(&seen, FIRST).unwrap();
    let history = client.whole_history("lobby").await.unwrap();
    acknowledged.check(&history).unwrap();
    assert_eq!(history, seen);
}

async fn check_kill_at(step: &str) {
    let (mut stack, ann) = lobby_without_rates().await;
    let mut acknowledged = AcknowledgedMessages::default();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    post_some(&ann, &mut acknowledged, "before", 3).await;
    let mut seen = stream.messages(3, SOON).await.unwrap();

    stack.worker.restart_to_park_at(step).await.unwrap();
    post_some(&ann, &mut acknowledged, "at the step", 5).await;
    stack.worker.wait_parked(SOON).await.unwrap();
    post_some(&ann, &mut acknowledged, "while it hangs", 3).await;
    stack.worker.replace_parked().unwrap();

    // The accepted messages are shown without further traffic.
    seen.extend(stream.messages(8, SOON).await.unwrap());
    post_some(&ann, &mut acknowledged, "after", 3).await;
    assert_complete(&ann, &acknowledged, &mut stream, &mut seen).await;

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
async fn worker_killed_after_reading_loses_nothing() {
    check_kill_at("after_read").await;
}

#[tokio::test]
async fn worker_killed_in_its_transaction_loses_nothing() {
    check_kill_at("before_commit").await;
}

#[tokio::test]
async fn worker_killed_after_commit_loses_nothing() {
    check_kill_at("after_commit").await;
}

#[tokio::test]
async fn worker_killed_after_publishing_loses_nothing() {
    check_kill_at("after_publish").await;
}

#[tokio::test]
async fn worker_killed_after_trimming_loses_nothing() {
    check_kill_at("after_trim").await;
}

#[tokio::test]
async fn stored_message_shows_without_publication() {
    let (mut stack, ann) = lobby_without_rates().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    stack.worker.restart_to_park_at("after_commit").await.unwrap();
    let id = ann.post("lobby", "stored and not published").await.unwrap();
    stack.worker.wait_parked(SOON).await.unwrap();
    // The worker hangs and no other message comes: only the gateway's own polling can find the message.
    let event = stream.message(SHOWN_WITHIN).await.unwrap();
    assert_eq!(event.json().unwrap()["id"], id.as_str());
}

#[tokio::test]
async fn garbage_in_the_accept_log_becomes_dead_letters() {
    const PARTITIONS: usize = 16;
    let (stack, ann) = lobby_without_rates().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    for partition in 0..PARTITIONS {
        for garbage in [&b"x"[..], b"\xff\0\r\n", b"{\"seq\":1}"] {
            let log = stack.accept_stream(partition).await.unwrap();
            stack.redis.append_garbage(&log, garbage).await.unwrap();
        }
    }
    let mut acknowledged = AcknowledgedMessages::default();
    post_some(&ann, &mut acknowledged, "after the garbage", 3).await;
    assert_complete(&ann, &acknowledged, &mut stream, &mut Vec::new()).await;
    let mut database = stack.database().await.unwrap();
    let set_aside = rig::eventually(SOON, "all garbage is set aside", async || match database.dead_letters().await? {
        count if usize::try_from(count)? == 3 * PARTITIONS => Ok(()),
        count => Err(rig::Failure::new(format!("{count} dead letters"))),
    });
    set_aside.await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn worker_kills_under_posting_lose_nothing() {
    const KILLS: usize = 3;
    const BETWEEN_KILLS: usize = 60;
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let (mut stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut stream = elsewhere.stream("lobby").open().await.unwrap();
    let mut acknowledged = AcknowledgedMessages::default();
    for kill in 0..KILLS {
        post_some(&ann, &mut acknowledged, &format!("before kill {kill}"), BETWEEN_KILLS).await;
        stack.worker.kill().unwrap();
        post_some(&elsewhere, &mut acknowledged, &format!("after kill {kill}"), BETWEEN_KILLS).await;
        stack.worker.start().unwrap();
    }
    assert_complete(&ann, &acknowledged, &mut stream, &mut Vec::new()).await;
    stack.wait_ready().await.unwrap();
}

#[tokio::test]
async fn standby_takes_over_and_paused_worker_does_no_harm() {
    let (stack, ann) = lobby_without_rates().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let mut acknowledged = AcknowledgedMessages::default();
    let mut second = stack.another_worker("worker-2").unwrap();
    second.start().unwrap();
    post_some(&ann, &mut acknowledged, "of the first", 5).await;
    let mut seen = stream.messages(5, SOON).await.unwrap();

    stack.worker.process.pause().unwrap();
    post_some(&ann, &mut acknowledged, "of the second", 5).await;
    seen.extend(stream.messages(5, SOON).await.unwrap());
    stack.worker.process.resume().unwrap();
    post_some(&ann, &mut acknowledged, "of either", 20).await;
    assert_complete(&ann, &acknowledged, &mut stream, &mut seen).await;

    second.kill().unwrap();
    post_some(&ann, &mut acknowledged, "of the first again", 5).await;
    assert_complete(&ann, &acknowledged, &mut stream, &mut seen).await;
}
