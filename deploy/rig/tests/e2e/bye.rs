//! Every end of a stream that the server decides on is announced.

use std::time::{Duration, Instant};

use futures_util::future::{join, try_join_all};
use rig::{Ends, Method, RedisServer, Stack, Weather, eventually};
use serde_json::json;

use crate::scene::{SOON, furnish};

/// The gateway's own deadline for a clean stop, with some air.
const STOP_WITHIN: Duration = Duration::from_secs(12);
/// "Within 1 s on every gateway", with air for a machine that is busy with other tests.
const ENDED_WITHIN: Duration = Duration::from_secs(2);
/// The same where nobody tells: the other gateways look twice a second.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn logging_out_ends_the_streams_of_the_session_on_every_gateway() {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = stack.gateways[1].url();
    let bob = ann.register("bob").await.unwrap();
    let bob_again = ann.login("bob").await.unwrap();
    let mut here = bob.stream("lobby").open().await.unwrap();
    let mut there = bob.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();
    let mut other_session = bob_again.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();

    bob.logout().await.unwrap();
    let logged_out = Instant::now();
    assert_eq!(here.bye(SOON).await.unwrap(), "revoked");
    assert_eq!(there.bye(SOON).await.unwrap(), "revoked");
    assert!(logged_out.elapsed() < ENDED_WITHIN, "{:?}", logged_out.elapsed());
    ann.post("lobby", "who is left").await.unwrap();
    assert_eq!(other_session.message(SOON).await.unwrap().json().unwrap()["message"], "who is left");
}

#[tokio::test]
async fn leaving_and_deleting_end_streams_on_every_gateway() {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = stack.gateways[1].url();
    let bob = ann.register("bob").await.unwrap();
    let mut of_ann = ann.stream("lobby").open().await.unwrap();
    let mut of_ann_elsewhere = ann.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();
    let mut of_bob = bob.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();

    bob.call(Method::DELETE, "/chat/lobby/message").await.unwrap().expect(204).unwrap();
    let left = Instant::now();
    assert_eq!(of_bob.bye(SOON).await.unwrap(), "removed");
    assert!(left.elapsed() < ENDED_WITHIN, "{:?}", left.elapsed());

    // The others are still there.
    ann.post("lobby", "who is left").await.unwrap();
    for stream in [&mut of_ann, &mut of_ann_elsewhere] {
        assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["message"], "who is left");
    }
    ann.call(Method::DELETE, "/chat/lobby").await.unwrap().expect(204).unwrap();
    for stream in [&mut of_ann, &mut of_ann_elsewhere] {
        assert_eq!(stream.bye(SOON).await.unwrap(), "removed");
    }
}

#[tokio::test]
async fn without_redis_too_streams_end_on_every_gateway() {
    streams_end_though(RedisServer::kill).await;
}

#[tokio::test]
async fn while_redis_hangs_too_streams_end_on_every_gateway() {
    streams_end_though(|redis| redis.service.pause()).await;
}

/// Each change is made and said to be; the other gateway finds out by itself.
async fn streams_end_though(redis_fails: impl FnOnce(&mut RedisServer) -> rig::Result<()>) {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let (mut stack, ann) = furnish(stack).await;
    ann.create_room("kitchen").await.unwrap();
    let elsewhere = stack.gateways[1].url();
    let bob = ann.register("bob").await.unwrap();
    let carl = ann.register("carl").await.unwrap();
    let mut of_ann = ann.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();
    let mut of_bob = bob.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();
    let mut of_carl = carl.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();
    let mut of_kitchen = ann.moved_to(&elsewhere).unwrap().stream("kitchen").open().await.unwrap();

    redis_fails(&mut stack.redis).unwrap();
    let failed = Instant::now();
    let changes = try_join_all([
        bob.call(Method::POST, "/auth/logout"),
        carl.call(Method::DELETE, "/chat/lobby/message"),
        ann.call(Method::DELETE, "/chat/kitchen"),
    ]);
    let ends = async {
        assert_eq!(of_bob.bye(SOON).await.unwrap(), "revoked");
        assert_eq!(of_carl.bye(SOON).await.unwrap(), "removed");
        assert_eq!(of_kitchen.bye(SOON).await.unwrap(), "removed");
        failed.elapsed()
    };
    let (answers, ended_after) = join(changes, ends).await;
    for answer in answers.unwrap() {
        assert!([200, 204].contains(&answer.status()), "{answer}");
    }
    assert!(ended_after < ENDED_WITHIN, "{ended_after:?}");
    bob.moved_to(&elsewhere)
        .unwrap()
        .get("/chat/")
        .await
        .unwrap()
        .expect_error(401, "session_revoked")
        .unwrap();

    // Whoever may stay goes on when Redis is back.
    // Fails if it is dead already.
    let _ = stack.redis.kill();
    stack.redis.restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "who is left").await.unwrap();
    assert_eq!(of_ann.message(SOON).await.unwrap().json().unwrap()["message"], "who is left");
}

#[tokio::test]
async fn a_gateway_that_cannot_tell_the_others_is_found_out_by_them() {
    let stack = Stack::builder().without_limits().gateways(2).links().start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    ann.send_json("/chat/secret", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    let bob = ann.register("bob").await.unwrap();
    let (ann_there, bob_there) = (ann.moved_to(&stack.gateways[1].url()), bob.moved_to(&stack.gateways[1].url()));
    let (ann_there, bob_there) = (ann_there.unwrap(), bob_there.unwrap());
    let mut of_ann = ann_there.stream("secret").open().await.unwrap();
    let mut of_ann_in_the_lobby = ann_there.stream("lobby").open().await.unwrap();
    let mut of_bob = bob_there.stream("lobby").open().await.unwrap();

    let link = stack.link(Ends::GatewayRedis(0)).unwrap();
    link.proxy.set(Weather::Refusing);
    link.proxy.cut();
    bob.logout().await.unwrap();
    ann.call(Method::DELETE, "/chat/secret/message").await.unwrap().expect(204).unwrap();
    let removed = Instant::now();
    assert_eq!(of_bob.bye(SOON).await.unwrap(), "revoked");
    assert_eq!(of_ann.bye(SOON).await.unwrap(), "removed");
    let refused = eventually(SOON, "what the other gateway remembered is forgotten", async || {
        bob_there.get("/chat/").await?.expect_error(401, "session_revoked")?;
        ann_there.get("/chat/secret/users").await?.expect_error(404, "room_not_found")
    });
    refused.await.unwrap();
    assert!(removed.elapsed() < FOUND_OUT_WITHIN, "{:?}", removed.elapsed());

    // Whoever may stay goes on.
    ann_there.post("lobby", "who is left").await.unwrap();
    assert_eq!(of_ann_in_the_lobby.message(SOON).await.unwrap().json().unwrap()["message"], "who is left");
}

#[tokio::test]
async fn a_stream_ends_at_its_greatest_age_and_the_client_goes_on_with_another() {
    let stack = Stack::builder().without_limits().gateway("STREAM_MAX_AGE_S", "2").start().await.unwrap();
    let (_stack, ann) = furnish(stack).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.post("lobby", "1").await.unwrap();
    let last = stream.message(SOON).await.unwrap().id;
    assert_eq!(stream.bye(SOON).await.unwrap(), "max_age");
    ann.post("lobby", "2").await.unwrap();
    let mut next = ann.stream("lobby").after(&last).open().await.unwrap();
    assert_eq!(next.message(SOON).await.unwrap().seq().unwrap(), 2);
}

#[tokio::test]
async fn a_stream_and_its_token_end_at_the_same_time() {
    let stack = Stack::builder().without_limits().gateway("TOKEN_TTL_S", "3").start().await.unwrap();
    let (_stack, ann) = furnish(stack).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    assert_eq!(stream.bye(SOON).await.unwrap(), "token_expired");
    // Some seconds of difference between clocks are forgiven.
    eventually(SOON, "the expired token is refused", async || {
        let answer = ann.get("/chat/").await?;
        answer.expect_error(401, "token_expired")?;
        Ok(())
    })
    .await
    .unwrap();
    let again = ann.login("ann").await.unwrap();
    again.get("/chat/").await.unwrap().expect(200).unwrap();
}

#[tokio::test]
async fn sigterm_says_bye_to_every_stream_and_ends_in_time() {
    const STREAMS: usize = 40;
    let (mut stack, ann) = furnish(Stack::builder().without_limits().start().await.unwrap()).await;
    let mut streams = try_join_all((0..STREAMS).map(|_| ann.stream("lobby").open())).await.unwrap();
    ann.post("lobby", "the last one").await.unwrap();
    for stream in &mut streams {
        stream.message(SOON).await.unwrap();
    }
    let asked = Instant::now();
    stack.gateways[0].service.terminate().unwrap();
    let reasons = try_join_all(streams.iter_mut().map(|stream| stream.bye(STOP_WITHIN))).await.unwrap();
    assert_eq!(reasons, vec!["shutdown"; STREAMS]);
    assert_eq!(stack.gateways[0].service.exit_code(STOP_WITHIN).await.unwrap(), 0);
    assert!(asked.elapsed() < STOP_WITHIN, "{:?}", asked.elapsed());
    assert_eq!(stack.worker.service.stop(STOP_WITHIN).await.unwrap(), 0);
}
