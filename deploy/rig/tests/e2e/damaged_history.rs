//! History from which messages are missing.

use rig::{ApiClient, Backend, Failure, Stack, eventually};
use serde_json::json;

use crate::fixture::{SOON, allow_publish, fill, with_lobby};
use crate::user_device::Device;

const MESSAGES: usize = 6;

/// A message is missing: a client that resumes before it is reset to load history anew, and goes on live.
async fn check_history_hole(backend: Backend) {
    let (stack, ann) = with_lobby(Stack::builder().backend(backend).start().await.unwrap()).await;
    fill(&ann, MESSAGES).await.unwrap();
    let mut database = stack.database().await.unwrap();
    database.lose_message("lobby", 4).await.unwrap();
    database.close().await.unwrap();
    let epoch = ann.stream("lobby").open().await.unwrap().ready().id.split_once('-').unwrap().0.to_owned();
    let http2 = ApiClient::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    for (client, head) in [(&ann, 7), (&http2, 8)] {
        let mut stream = client.stream("lobby").after(&format!("{epoch}-2")).open().await.unwrap();
        let reset = stream.expect("reset", SOON).await.unwrap();
        let data = reset.json().unwrap();
        assert_eq!((data["reason"].as_str(), data["head"].as_i64()), (Some("history_damaged"), Some(head)));
        assert_eq!(reset.seq().unwrap(), head);
        client.post("lobby", "live").await.unwrap();
        assert_eq!(stream.message(SOON).await.unwrap().seq().unwrap(), head + 1);
    }
    // It is logged once, however many readers meet it.
    let log = stack.gateways[0].process.log();
    assert_eq!(log.matches("history_damaged").count(), 1, "{log}");
}

/// A message is missing that a user's device has not got: the device learns that it has to load the room anew, and goes on live.
async fn check_hole_behind_a_device(backend: Backend) {
    let (stack, ann) = with_lobby(Stack::builder().backend(backend).start().await.unwrap()).await;
    let mut device = Device::new(&ann);
    device.catch_up(10).await.unwrap();
    let before = device.cursor.clone().unwrap();
    fill(&ann, MESSAGES).await.unwrap();
    let mut database = stack.database().await.unwrap();
    database.lose_message("lobby", 4).await.unwrap();
    database.close().await.unwrap();

    let answer = ann.get(&format!("/user/sync?since={before}")).await.unwrap().expect(200).unwrap().json().unwrap();
    let lobby = &answer["rooms"][0];
    assert_eq!((&lobby["gap"], &lobby["entries"]), (&json!({"from": 2, "to": 7}), &json!([])), "{answer}");
    let log = stack.gateways[0].process.log();
    assert_eq!(log.matches("history_damaged").count(), 1, "{log}");

    let mut stream = ann.user_events().after(&before).open().await.unwrap();
    let reset = stream.expect("reset", SOON).await.unwrap().json().unwrap();
    assert_eq!(reset, json!({"reason": "history_damaged", "rooms": [{"name": "lobby", "head": 7}]}));
    ann.post("lobby", "live").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["seq"], 8);
    let log = stack.gateways[0].process.log();
    assert_eq!(log.matches("history_damaged").count(), 1, "{log}");
}

#[tokio::test]
async fn hole_behind_a_device_is_told_on_sqlite() {
    check_hole_behind_a_device(Backend::Sqlite).await;
}

#[tokio::test]
async fn hole_behind_a_device_is_told_on_postgres() {
    check_hole_behind_a_device(Backend::Postgres).await;
}

/// A message that no event brought is missing: a client that follows is reset, and goes on live.
async fn check_hole_under_a_stream(backend: Backend) {
    let (stack, ann) = with_lobby(Stack::builder().backend(backend).gateways(2).start().await.unwrap()).await;
    fill(&ann, MESSAGES).await.unwrap();
    let mut stream = ann.stream("lobby").open().await.unwrap();
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    // Until the gateway looks again, two messages are stored, and the first one is lost.
    stack.gateways[0].process.pause().unwrap();
    allow_publish(&stack.redis, false).await;
    for text in ["to be lost", "kept"] {
        elsewhere.post("lobby", text).await.unwrap();
    }
    eventually(SOON, "both are stored", async || {
        let newest = elsewhere.history("lobby", "?limit=1").await?;
        match newest[0]["seq"].as_i64() {
            Some(9) => Ok(()),
            head => Err(Failure::new(format!("the head is {head:?}"))),
        }
    })
    .await
    .unwrap();
    let mut database = stack.database().await.unwrap();
    database.lose_message("lobby", 8).await.unwrap();
    database.close().await.unwrap();
    stack.gateways[0].process.resume().unwrap();
    let reset = stream.expect("reset", SOON).await.unwrap();
    let data = reset.json().unwrap();
    assert_eq!((data["reason"].as_str(), data["head"].as_i64()), (Some("history_damaged"), Some(9)));
    assert_eq!(reset.seq().unwrap(), 9);
    allow_publish(&stack.redis, true).await;
    elsewhere.post("lobby", "live").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().seq().unwrap(), 10);
    // The reader who comes back from before the hole meets it, too, and it is not logged again.
    let epoch = reset.id.split_once('-').unwrap().0.to_owned();
    let mut later = ann.stream("lobby").after(&format!("{epoch}-7")).open().await.unwrap();
    assert_eq!(later.expect("reset", SOON).await.unwrap().json().unwrap()["reason"], "history_damaged");
    // One who has got what is missing is not concerned.
    let mut after = ann.stream("lobby").after(&format!("{epoch}-8")).open().await.unwrap();
    assert_eq!(after.message(SOON).await.unwrap().seq().unwrap(), 9);
    let log = stack.gateways[0].process.log();
    assert_eq!(log.matches("history_damaged").count(), 1, "{log}");
}

#[tokio::test]
async fn hole_under_a_stream_resets_it_and_is_logged() {
    check_hole_under_a_stream(Backend::Sqlite).await;
}

#[tokio::test]
async fn hole_under_a_stream_resets_it_and_is_logged_on_postgres() {
    check_hole_under_a_stream(Backend::Postgres).await;
}

#[tokio::test]
async fn history_hole_resets_readers_and_is_logged() {
    check_history_hole(Backend::Sqlite).await;
}

#[tokio::test]
async fn history_hole_resets_readers_and_is_logged_on_postgres() {
    check_history_hole(Backend::Postgres).await;
}

#[tokio::test]
async fn room_opens_and_is_read_without_redis() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "5").start().await.unwrap();
    let (mut stack, ann) = with_lobby(stack).await;
    ann.create_room("attic").await.unwrap();
    fill(&ann, MESSAGES).await.unwrap();
    let epoch = ann.stream("lobby").open().await.unwrap().ready().id.split_once('-').unwrap().0.to_owned();
    let there = ann.moved_to(&stack.gateways[1].url()).unwrap();
    stack.redis.kill().unwrap();
    // No stream of the room is open at that gateway yet.
    let mut stream = there.stream("lobby").after(&format!("{epoch}-3")).open().await.unwrap();
    let missed = stream.messages(MESSAGES - 2, SOON).await.unwrap();
    assert_eq!(missed.last().unwrap().seq().unwrap(), 7);
    there.stream("attic").open().await.unwrap();
    stack.redis.restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    eventually(SOON, "live comes back by itself", async || {
        ann.post("lobby", "live").await?;
        match stream.message(SOON).await?.json()?["message"].as_str() {
            Some("live") => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    })
    .await
    .unwrap();
}
