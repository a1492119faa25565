//! History that lacks messages it had.

use rig::{App, Backend, Failure, Stack, eventually};

use crate::scene::{SOON, fill, furnish};

const MESSAGES: usize = 6;

/// A message is gone: who resumes before it is told to load history anew, and goes on live.
async fn a_hole_is_told(backend: Backend) {
    let (stack, ann) = furnish(Stack::builder().backend(backend).start().await.unwrap()).await;
    fill(&ann, MESSAGES).await.unwrap();
    let mut database = stack.database().await.unwrap();
    database.lose_message("lobby", 3).await.unwrap();
    database.close().await.unwrap();
    let epoch = ann.stream("lobby").open().await.unwrap().ready().id.split_once('-').unwrap().0.to_owned();
    let http2 = App::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    for (app, head) in [(&ann, 6), (&http2, 7)] {
        let mut stream = app.stream("lobby").after(&format!("{epoch}-1")).open().await.unwrap();
        let reset = stream.expect("reset", SOON).await.unwrap();
        let data = reset.json().unwrap();
        assert_eq!((data["reason"].as_str(), data["head"].as_i64()), (Some("history_damaged"), Some(head)));
        assert_eq!(reset.seq().unwrap(), head);
        app.post("lobby", "live").await.unwrap();
        assert_eq!(stream.message(SOON).await.unwrap().seq().unwrap(), head + 1);
    }
    // Told once, whoever meets it.
    let log = stack.gateways[0].service.log();
    assert_eq!(log.matches("is missing in history").count(), 1, "{log}");
}

#[tokio::test]
async fn a_hole_in_history_is_told_to_readers_and_operators() {
    a_hole_is_told(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_hole_in_history_is_told_to_readers_and_operators_on_postgres() {
    a_hole_is_told(Backend::Postgres).await;
}

#[tokio::test]
async fn without_redis_a_room_can_be_opened_and_read() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "5").start().await.unwrap();
    let (mut stack, ann) = furnish(stack).await;
    ann.create_room("attic").await.unwrap();
    fill(&ann, MESSAGES).await.unwrap();
    let epoch = ann.stream("lobby").open().await.unwrap().ready().id.split_once('-').unwrap().0.to_owned();
    let there = ann.moved_to(&stack.gateways[1].url()).unwrap();
    stack.redis.kill().unwrap();
    // Nobody follows it there.
    let mut stream = there.stream("lobby").after(&format!("{epoch}-2")).open().await.unwrap();
    let missed = stream.messages(MESSAGES - 2, SOON).await.unwrap();
    assert_eq!(missed.last().unwrap().seq().unwrap(), 6);
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
