//! The server announces every end of a stream that it decides on by `bye`.

use std::time::{Duration, Instant};

use futures_util::future::{join, try_join_all};
use rig::{LinkEnds, Method, NetworkCondition, RedisServer, Stack, eventually};
use serde_json::json;

use crate::fixture::{SOON, with_lobby};

/// The gateway's own deadline for a clean stop, with a margin.
const STOP_WITHIN: Duration = Duration::from_secs(12);
/// "Within 1 s on every gateway", with a margin for a machine that is busy with other tests.
const ENDED_WITHIN: Duration = Duration::from_secs(2);
/// The same where the notification is lost: the other gateways poll twice a second.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn logout_ends_streams_of_the_session_on_every_gateway() {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
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
async fn leaving_and_deletion_end_streams_on_every_gateway() {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let elsewhere = stack.gateways[1].url();
    let bob = ann.register("bob").await.unwrap();
    let mut of_ann = ann.stream("lobby").open().await.unwrap();
    let mut of_ann_elsewhere = ann.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();
    let mut of_bob = bob.moved_to(&elsewhere).unwrap().stream("lobby").open().await.unwrap();

    bob.call(Method::DELETE, "/chat/lobby/message").await.unwrap().expect(204).unwrap();
    let left = Instant::now();
    assert_eq!(of_bob.bye(SOON).await.unwrap(), "removed");
    assert!(left.elapsed() < ENDED_WITHIN, "{:?}", left.elapsed());

    // The other streams are still open.
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
async fn streams_end_on_every_gateway_without_redis() {
    check_streams_end_though(RedisServer::kill).await;
}

#[tokio::test]
async fn streams_end_on_every_gateway_while_redis_hangs() {
    check_streams_end_though(|redis| redis.process.pause()).await;
}

/// Each change is acknowledged although Redis has failed; the other gateway notices it by polling.
async fn check_streams_end_though(redis_fails: impl FnOnce(&mut RedisServer) -> rig::Result<()>) {
    let stack = Stack::builder().without_limits().gateways(2).start().await.unwrap();
    let (mut stack, ann) = with_lobby(stack).await;
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
    let (responses, ended_after) = join(changes, ends).await;
    for response in responses.unwrap() {
        assert!([200, 204].contains(&response.status()), "{response}");
    }
    assert!(ended_after < ENDED_WITHIN, "{ended_after:?}");
    bob.moved_to(&elsewhere)
        .unwrap()
        .get("/chat/")
        .await
        .unwrap()
        .expect_error(401, "session_revoked")
        .unwrap();

    // The remaining streams go on when Redis is back. The kill fails if Redis is dead already.
    let _ = stack.redis.kill();
    stack.redis.restart().await.unwrap();
    stack.wait_ready().await.unwrap();
    ann.post("lobby", "who is left").await.unwrap();
    assert_eq!(of_ann.message(SOON).await.unwrap().json().unwrap()["message"], "who is left");
}

#[tokio::test]
async fn revocation_is_noticed_when_its_notification_is_lost() {
    let stack = Stack::builder().without_limits().gateways(2).links().start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    ann.send_json("/chat/secret", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    let bob = ann.register("bob").await.unwrap();
    let (ann_there, bob_there) = (ann.moved_to(&stack.gateways[1].url()), bob.moved_to(&stack.gateways[1].url()));
    let (ann_there, bob_there) = (ann_there.unwrap(), bob_there.unwrap());
    let mut of_ann = ann_there.stream("secret").open().await.unwrap();
    let mut of_ann_in_the_lobby = ann_there.stream("lobby").open().await.unwrap();
    let mut of_bob = bob_there.stream("lobby").open().await.unwrap();

    let link = stack.link(LinkEnds::GatewayRedis(0)).unwrap();
    link.proxy.set(NetworkCondition::Refusing);
    link.proxy.cut();
    bob.logout().await.unwrap();
    ann.call(Method::DELETE, "/chat/secret/message").await.unwrap().expect(204).unwrap();
    let removed = Instant::now();
    assert_eq!(of_bob.bye(SOON).await.unwrap(), "revoked");
    assert_eq!(of_ann.bye(SOON).await.unwrap(), "removed");
    let refused = eventually(SOON, "the other gateway no longer uses what it cached", async || {
        bob_there.get("/chat/").await?.expect_error(401, "session_revoked")?;
        ann_there.get("/chat/secret/users").await?.expect_error(404, "room_not_found")
    });
    refused.await.unwrap();
    assert!(removed.elapsed() < NOTICED_WITHIN, "{:?}", removed.elapsed());

    // The remaining stream goes on.
    ann_there.post("lobby", "who is left").await.unwrap();
    assert_eq!(of_ann_in_the_lobby.message(SOON).await.unwrap().json().unwrap()["message"], "who is left");
}

#[tokio::test]
async fn stream_ends_at_greatest_age_and_client_resumes() {
    let stack = Stack::builder().without_limits().gateway("STREAM_MAX_AGE_S", "2").start().await.unwrap();
    let (_stack, ann) = with_lobby(stack).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    ann.post("lobby", "1").await.unwrap();
    let last = stream.message(SOON).await.unwrap().id;
    assert_eq!(stream.bye(SOON).await.unwrap(), "max_age");
    ann.post("lobby", "2").await.unwrap();
    let mut next = ann.stream("lobby").after(&last).open().await.unwrap();
    assert_eq!(next.message(SOON).await.unwrap().seq().unwrap(), 3);
}

#[tokio::test]
async fn stream_ends_when_its_token_expires() {
    let stack = Stack::builder().without_limits().gateway("TOKEN_TTL_S", "3").start().await.unwrap();
    let (_stack, ann) = with_lobby(stack).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    assert_eq!(stream.bye(SOON).await.unwrap(), "token_expired");
    // Some seconds of difference between clocks are tolerated.
    eventually(SOON, "the expired token is refused", async || {
        let response = ann.get("/chat/").await?;
        response.expect_error(401, "token_expired")?;
        Ok(())
    })
    .await
    .unwrap();
    let again = ann.login("ann").await.unwrap();
    again.get("/chat/").await.unwrap().expect(200).unwrap();
}

#[tokio::test]
async fn sigterm_ends_every_stream_with_bye_in_time() {
    const STREAMS: usize = 40;
    let (mut stack, ann) = with_lobby(Stack::builder().without_limits().start().await.unwrap()).await;
    let mut streams = try_join_all((0..STREAMS).map(|_| ann.stream("lobby").open())).await.unwrap();
    ann.post("lobby", "the last one").await.unwrap();
    for stream in &mut streams {
        stream.message(SOON).await.unwrap();
    }
    let asked = Instant::now();
    stack.gateways[0].process.terminate().unwrap();
    let reasons = try_join_all(streams.iter_mut().map(|stream| stream.bye(STOP_WITHIN))).await.unwrap();
    assert_eq!(reasons, vec!["shutdown"; STREAMS]);
    assert_eq!(stack.gateways[0].process.exit_code(STOP_WITHIN).await.unwrap(), 0);
    assert!(asked.elapsed() < STOP_WITHIN, "{:?}", asked.elapsed());
    assert_eq!(stack.worker.process.stop(STOP_WITHIN).await.unwrap(), 0);
}
