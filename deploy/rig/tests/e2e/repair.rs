//! Notifications get lost: what was stored shows all the same, soon and without a hole.

use std::time::{Duration, Instant};

use redis::cmd;
use rig::{App, RedisServer, Stack, check_dense};
use serde_json::Value;

use crate::scene::{SOON, busy_lobby, furnish};

/// "Shown within 2 s", with air for a machine that is busy with other tests.
const SHOWN_WITHIN: Duration = Duration::from_secs(4);

/// Lets events through or not: a Redis that refuses PUBLISH leaves every subscription standing.
async fn let_events_through(redis: &RedisServer, through: bool) {
    let mut connection = redis.connect().await.unwrap();
    let rule = if through { "+publish" } else { "-publish" };
    cmd("ACL").arg("SETUSER").arg("default").arg(rule).exec_async(&mut connection).await.unwrap();
}

async fn post_numbers(app: &App, room: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        app.post(room, &format!("message {number}")).await.unwrap();
    }
}

#[tokio::test]
async fn without_any_event_all_rooms_show_what_is_stored_on_every_gateway() {
    const ROOMS: [&str; 3] = ["lobby", "kitchen", "garden"];
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut streams = Vec::new();
    for room in ROOMS {
        if room != "lobby" {
            ann.create_room(room).await.unwrap();
        }
        streams.push(ann.stream(room).open().await.unwrap());
        streams.push(elsewhere.stream(room).open().await.unwrap());
    }
    let_events_through(&stack.redis, false).await;
    for room in ROOMS {
        post_numbers(&ann, room, 0..4).await;
    }
    let posted = Instant::now();
    for stream in &mut streams {
        let seen = stream.messages(4, SOON).await.unwrap();
        let seen: Vec<Value> = seen.iter().map(|event| event.json().unwrap()).collect();
        check_dense(&seen, 1).unwrap();
    }
    assert!(posted.elapsed() < SHOWN_WITHIN, "{:?}", posted.elapsed());
}

#[tokio::test]
async fn events_lost_here_and_there_and_the_last_one_leave_no_hole() {
    const ROUNDS: usize = 6;
    let (stack, ann) = busy_lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    for round in 0..ROUNDS {
        let_events_through(&stack.redis, round % 2 == 0).await;
        post_numbers(&ann, "lobby", round * 5..round * 5 + 5).await;
    }
    // The last round was one of those nobody was told of.
    let posted = Instant::now();
    let seen = stream.messages(ROUNDS * 5, SOON).await.unwrap();
    assert!(posted.elapsed() < SHOWN_WITHIN, "{:?}", posted.elapsed());
    let seen: Vec<Value> = seen.iter().map(|event| event.json().unwrap()).collect();
    check_dense(&seen, 1).unwrap();
    assert_eq!(ann.whole_history("lobby").await.unwrap(), seen);
    // And nothing is repeated once events come again.
    let_events_through(&stack.redis, true).await;
    post_numbers(&ann, "lobby", 0..1).await;
    let next = stream.message(SOON).await.unwrap();
    assert_eq!(next.seq().unwrap(), i64::try_from(ROUNDS * 5 + 1).unwrap());
}

#[tokio::test]
async fn a_gateway_cut_off_from_events_shows_what_it_missed() {
    const CUTS: usize = 5;
    let (stack, ann) = busy_lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let mut connection = stack.redis.connect().await.unwrap();
    for cut in 0..CUTS {
        let killed: i64 =
            cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query_async(&mut connection).await.unwrap();
        // The worker is among them, by its presence.
        assert!(killed >= 1);
        post_numbers(&ann, "lobby", cut * 3..cut * 3 + 3).await;
        let seen = stream.messages(3, SHOWN_WITHIN).await.unwrap();
        let seqs: Vec<i64> = seen.iter().map(|event| event.seq().unwrap()).collect();
        let first = i64::try_from(cut * 3 + 1).unwrap();
        assert_eq!(seqs, [first, first + 1, first + 2]);
        // Before the next cut it listens again.
        let control = stack.name("control").await.unwrap();
        rig::eventually(SOON, "the gateway listens again", async || {
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
