//! A gateway is killed or restarted: clients go on, and nothing is lost.

use std::time::Duration;

use rig::{AcknowledgedMessages, Stack, check_dense_seqs, eventually};
use serde_json::Value;

use crate::fixture::{FIRST, SOON, with_lobby};

/// The gateway's own deadline for a clean stop, with a margin.
const STOP_WITHIN: Duration = Duration::from_secs(12);

#[tokio::test]
async fn client_of_killed_gateway_resumes_at_another() {
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let (mut stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut acknowledged = AcknowledgedMessages::default();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    for number in 0..20 {
        let text = format!("before {number}");
        acknowledged.add(ann.post("lobby", &text).await.unwrap(), text);
    }
    let mut seen = stream.messages(12, SOON).await.unwrap();
    stack.gateways[0].kill().unwrap();

    // The cut is an error, not a clean end; messages that were on their way may still come.
    let cut = loop {
        match stream.next(SOON).await {
            Ok(Some(event)) => seen.push(event),
            other => break other,
        }
    };
    assert!(cut.is_err(), "{cut:?}");
    assert!(ann.get("/chat/").await.is_err());

    // A message whose response never came is repeated at the other gateway under its key.
    let last = seen.last().unwrap().id.clone();
    let mut stream = elsewhere.stream("lobby").after(&last).open().await.unwrap();
    for number in 0..10 {
        let text = format!("after {number}");
        acknowledged.add(elsewhere.post("lobby", &text).await.unwrap(), text);
    }
    seen.extend(stream.messages(acknowledged.len() - seen.len(), SOON).await.unwrap());
    let seen: Vec<Value> = seen.iter().map(|event| event.json().unwrap()).collect();
    check_dense_seqs(&seen, FIRST).unwrap();
    let history = elsewhere.whole_history("lobby").await.unwrap();
    acknowledged.check(&history).unwrap();
    assert_eq!(history, seen);

    // The gateway is back on the same port with the same keys: the token is still valid.
    stack.gateways[0].start().unwrap();
    stack.wait_ready().await.unwrap();
    let back = ann.moved_to(&stack.gateways[0].url()).unwrap();
    let mut stream = back.stream("lobby").after(&last).open().await.unwrap();
    let next = stream.message(SOON).await.unwrap().json().unwrap();
    assert_eq!(next, history[usize::try_from(last_seq(&last) + 1 - FIRST).unwrap()]);
}

fn last_seq(id: &str) -> i64 {
    id.rsplit_once('-').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn messages_survive_a_full_restart() {
    let (mut stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    let mut acknowledged = AcknowledgedMessages::default();
    for number in 0..10 {
        let text = format!("message {number}");
        acknowledged.add(ann.post("lobby", &text).await.unwrap(), text);
    }
    let position = {
        let mut stream = ann.stream("lobby").query("wait_s", "1").open().await.unwrap();
        let _ = stream.bye(SOON).await.unwrap();
        let response = ann.get("/chat/lobby/messagehistory").await.unwrap();
        response.header("last-event-id").unwrap().to_owned()
    };
    assert_eq!(stack.gateways[0].process.stop(STOP_WITHIN).await.unwrap(), 0);
    assert_eq!(stack.worker.process.stop(STOP_WITHIN).await.unwrap(), 0);
    stack.redis.kill().unwrap();

    stack.redis.restart().await.unwrap();
    stack.worker.start().unwrap();
    stack.gateways[0].start().unwrap();
    stack.wait_ready().await.unwrap();
    let ann = ann.moved_to(&stack.gateways[0].url()).unwrap();
    acknowledged.check(&ann.whole_history("lobby").await.unwrap()).unwrap();
    let mut stream = ann.stream("lobby").after(&position).open().await.unwrap();
    assert_eq!(stream.ready().json().unwrap()["recovered"], true);
    ann.post("lobby", "and on").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "and on");
}

#[tokio::test]
async fn stream_survives_an_absent_worker() {
    let (mut stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    assert_eq!(stack.worker.process.stop(STOP_WITHIN).await.unwrap(), 0);
    let id = ann.post("lobby", "accepted without a worker").await.unwrap();
    let absent = eventually(SOON, "the gateway sees that no worker is there", async || {
        let response = ann.get("/health/ready").await?;
        match response.json()?["worker"].as_str() {
            Some("absent") => Ok(()),
            _ => Err(rig::Failure::new(response.to_string())),
        }
    });
    absent.await.unwrap();
    assert_eq!(ann.history("lobby", "").await.unwrap(), Vec::<Value>::new());
    stack.worker.start().unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["id"], id.as_str());
}
