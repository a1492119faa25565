//! The bounded mode, in which a stream ends by itself so that a person can read it.

use std::time::{Duration, Instant};

use rig::Method;

use crate::fixture::{SOON, fill, lobby};

#[tokio::test]
async fn bounded_stream_ends_after_message_count_or_time() {
    let (_stack, ann) = lobby().await;
    fill(&ann, 4).await.unwrap();
    let head = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    let start = head.replace("-5", "-0");

    let mut by_number =
        ann.stream("lobby").after(&start).query("limit", "3").query("wait_s", "20").open().await.unwrap();
    let seqs: Vec<i64> = by_number.messages(3, SOON).await.unwrap().iter().map(|event| event.seq().unwrap()).collect();
    assert_eq!(seqs, [2, 3, 4]);
    assert_eq!(by_number.bye(SOON).await.unwrap(), "bounded");

    // Live messages count too, and who joins meanwhile does not.
    let mut live = ann.stream("lobby").query("limit", "1").query("wait_s", "20").open().await.unwrap();
    ann.register("bob")
        .await
        .unwrap()
        .call(Method::POST, "/chat/lobby/join")
        .await
        .unwrap()
        .expect(204)
        .unwrap();
    ann.post("lobby", "live").await.unwrap();
    // That bob has joined may come before or after what another user says.
    let seq = live.message(SOON).await.unwrap().seq().unwrap();
    assert!((6..=7).contains(&seq), "{seq}");
    assert_eq!(live.bye(SOON).await.unwrap(), "bounded");

    let asked = Instant::now();
    let mut by_time = ann.stream("lobby").query("limit", "3").query("wait_s", "1").open().await.unwrap();
    assert_eq!(by_time.bye(SOON).await.unwrap(), "bounded");
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(6)).contains(&asked.elapsed()),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn invalid_bound_is_refused() {
    let (_stack, ann) = lobby().await;
    for query in [
        "limit=0",
        "limit=x",
        "limit=-1",
        "wait_s=x",
        "wait_s=-1",
        "max_replay=x",
        "limit=99999999999999999999",
    ] {
        let response = ann.get(&format!("/chat/lobby/message?{query}")).await.unwrap();
        assert_eq!(response.status(), 400, "{query}: {response}");
        response.expect_error_shape().unwrap();
    }
}
