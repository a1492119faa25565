//! Lost notifications: stored messages are shown all the same, soon and without a gap.

use std::time::{Duration, Instant};

use redis::cmd;
use rig::{ApiClient, Stack, check_dense_seqs};
use serde_json::Value;

use crate::fixture::{FIRST, SOON, allow_publish, lobby_without_rates, with_lobby};

/// "Shown within 2 s", with a margin for a machine that is busy with other tests.
const SHOWN_WITHIN: Duration = Duration::from_secs(4);

async fn post_numbers(client: &ApiClient, room: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client.post(room, &format!("message {number}")).await.unwrap();
    }
}

#[tokio::test]
async fn stored_messages_show_without_notifications() {
    const ROOMS: [&str; 3] = ["lobby", "kitchen", "garden"];
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut streams = Vec::new();
    for room in ROOMS {
        if room != "lobby" {
            ann.create_room(room).await.unwrap();
        }
        streams.push(ann.stream(room).open().await.unwrap());
        streams.push(elsewhere.stream(room).open().await.unwrap());
    }
    allow_publish(&stack.redis, false).await;
    for room in ROOMS {
        post_numbers(&ann, room, 0..4).await;
    }
    let posted = Instant::now();
    for stream in &mut streams {
        let seen = stream.messages(4, SOON).await.unwrap();
        let seen: Vec<Value> = seen.iter().map(|event| event.json().unwrap()).collect();
        check_dense_seqs(&seen, FIRST).unwrap();
    }
    assert!(posted.elapsed() < SHOWN_WITHIN, "{:?}", posted.elapsed());
}

#[tokio::test]
async fn lost_notifications_leave_no_gap() {
    const ROUNDS: usize = 6;
    let (stack, ann) = lobby_without_rates().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    for round in 0..ROUNDS {
        allow_publish(&stack.redis, round % 2 == 0).await;
        post_numbers(&ann, "lobby", round * 5..round * 5 + 5).await;
    }
    // The notifications of the last round were lost.
    let posted = Instant::now();
    let seen = stream.messages(ROUNDS * 5, SOON).await.unwrap();
    assert!(posted.elapsed() < SHOWN_WITHIN, "{:?}", posted.elapsed());
    let seen: Vec<Value> = seen.iter().map(|event| event.json().unwrap()).collect();
    check_dense_seqs(&seen, FIRST).unwrap();
    assert_eq!(ann.whole_history("lobby").await.unwrap(), seen);
    // Nothing is repeated once notifications come again.
    allow_publish(&stack.redis, true).await;
    post_numbers(&ann, "lobby", 0..1).await;
    let next = stream.message(SOON).await.unwrap();
    assert_eq!(next.seq().unwrap(), i64::try_from(ROUNDS * 5).unwrap() + FIRST);
}

#[tokio::test]
async fn gateway_shows_missed_messages_after_lost_subscription() {
    const CUTS: usize = 5;
    let (stack, ann) = lobby_without_rates().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let mut connection = stack.redis.connect().await.unwrap();
    for cut in 0..CUTS {
        let killed: i64 =
            cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query_async(&mut connection).await.unwrap();
        // The worker's subscription may be among them.
        assert!(killed >= 1);
        post_numbers(&ann, "lobby", cut * 3..cut * 3 + 3).await;
        let seen = stream.messages(3, SHOWN_WITHIN).await.unwrap();
        let seqs: Vec<i64> = seen.iter().map(|event| event.seq().unwrap()).collect();
        let first = i64::try_from(cut * 3).unwrap() + FIRST;
        assert_eq!(seqs, [first, first + 1, first + 2]);
        // Before the next cut the gateway has subscribed again.
        let control = stack.redis_key("control").await.unwrap();
        rig::eventually(SOON, "the gateway has subscribed again", async || {
            let channels: (String, i64) =
                cmd("PUBSUB").arg("NUMSUB").arg(&control).query_async(&mut connection).await?;
            if channels.1 == 1 {
                Ok(())
            } else {
                Err(rig::Failure::new("it does not"))
            }
        })
        .await
        .unwrap();
    }
}
