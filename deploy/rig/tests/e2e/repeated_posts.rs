//! Repeated posts: the same idempotency key is the same message, at every gateway, for ever.

use futures_util::future::try_join_all;
use rig::{Method, Stack};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};

use crate::fixture::{FIRST, SOON, lobby_without_rates, with_lobby};

/// A key that begins with a timestamp, which becomes part of its message's id (RFC 9562, appendix A.6).
const ORDERED_KEY: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

async fn check_concurrent_posts_with_one_key(key: &str) {
    const TRIES: usize = 24;
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let clients = [ann.clone(), ann.moved_to(&stack.gateways[1].url()).unwrap()];
    let mut stream = ann.stream("lobby").open().await.unwrap();

    let tries = (0..TRIES).map(|number| clients[number % 2].try_post("lobby", "only once", Some(key)));
    let responses = try_join_all(tries).await.unwrap();
    let mut ids: Vec<&str> = responses.iter().map(|response| response.header("message-id").unwrap()).collect();
    assert!(responses.iter().all(|response| response.status() == 204));
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(ids[0].starts_with("017f22e2-79b0-8"), key == ORDERED_KEY, "{ids:?}");

    // Once more after it was stored.
    assert_eq!(stream.message(SOON).await.unwrap().json().unwrap()["id"], ids[0]);
    for client in &clients {
        let again = client.try_post("lobby", "only once", Some(key)).await.unwrap().expect(204).unwrap();
        assert_eq!(again.header("message-id"), Some(ids[0]));
    }
    // Another key with the same text is another message, and so is one without a key.
    let other = ann.try_post("lobby", "only once", Some("another")).await.unwrap().expect(204).unwrap();
    assert_ne!(other.header("message-id"), Some(ids[0]));
    ann.post("lobby", "only once").await.unwrap();
    let seqs: Vec<i64> = stream.messages(2, SOON).await.unwrap().iter().map(|event| event.seq().unwrap()).collect();
    assert_eq!(seqs, [FIRST + 1, FIRST + 2]);
    assert_eq!(ann.whole_history("lobby").await.unwrap().len(), 3);

    // Another user's key is another key.
    let bob = ann.register("bob").await.unwrap();
    let by_bob = bob.try_post("lobby", "only once", Some(key)).await.unwrap().expect(204).unwrap();
    assert_ne!(by_bob.header("message-id"), Some(ids[0]));
}

#[tokio::test]
async fn concurrent_posts_with_one_key_are_one_message() {
    check_concurrent_posts_with_one_key("key-1").await;
}

#[tokio::test]
async fn concurrent_posts_with_one_ordered_key_are_one_message() {
    check_concurrent_posts_with_one_key(ORDERED_KEY).await;
}

#[tokio::test]
async fn keys_older_than_the_upgrade_keep_their_ids() {
    let (mut stack, ann) = with_lobby(Stack::start().await.unwrap()).await;
    let file = SqliteConnectOptions::new().filename(stack.directory().join("roomcast.db"));
    let mut database: SqliteConnection = file.connect().await.unwrap();
    let upgraded = "UPDATE installation SET ordered_ids_from = 1645557742001";
    sqlx::query(upgraded).execute(&mut database).await.unwrap();
    stack.renew_gateways().await.unwrap();
    let id_of = async |key: &str| {
        let response = ann.try_post("lobby", key, Some(key)).await.unwrap().expect(204).unwrap();
        response.header("message-id").unwrap().to_owned()
    };
    // The timestamp of this key is one millisecond before the upgrade; that of the next one is not.
    assert_eq!(&id_of(ORDERED_KEY).await[14..15], "5");
    assert!(id_of("017f22e2-79b1-7cc3-98c4-dc0c0c07398f").await.starts_with("017f22e2-79b1-8"));
}

#[tokio::test]
async fn key_is_bound_to_one_text_and_room() {
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    ann.create_room("other").await.unwrap();
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut stored = ann.stream("lobby").open().await.unwrap();
    ann.try_post("lobby", "this", Some("key")).await.unwrap().expect(204).unwrap();
    // Another room may be in another partition, which knows the key only when the message is stored.
    stored.message(SOON).await.unwrap();
    for client in [&ann, &elsewhere] {
        let response = client.try_post("lobby", "that", Some("key")).await.unwrap();
        response.expect_error(422, "idempotency_key_reused").unwrap();
        let response = client.try_post("other", "this", Some("key")).await.unwrap();
        response.expect_error(422, "idempotency_key_reused").unwrap();
        client.try_post("lobby", "this", Some("key")).await.unwrap().expect(204).unwrap();
    }
    ann.post("lobby", "last").await.unwrap();
    let mut stream = ann.stream("lobby").query("limit", "2").open().await.unwrap();
    let start = stream.ready().id.rsplit_once('-').unwrap().0.to_owned() + "-0";
    drop(stream);
    stream = ann.stream("lobby").after(&start).open().await.unwrap();
    let events = stream.messages(2, SOON).await.unwrap();
    let texts: Vec<_> = events.iter().map(|event| event.json().unwrap()["message"].clone()).collect();
    assert_eq!(texts, ["this", "last"]);
}

#[tokio::test]
async fn key_is_one_to_64_visible_characters() {
    let (_stack, ann) = lobby_without_rates().await;
    let longest = "x".repeat(64);
    for good in ["a", "!~", &longest] {
        ann.try_post("lobby", "hello", Some(good)).await.unwrap().expect(204).unwrap();
    }
    let too_long = "x".repeat(65);
    for bad in ["", "a b", "ä", "a\tb", &too_long] {
        let response = ann.try_post("lobby", "hello", Some(bad)).await.unwrap();
        assert_eq!(response.status(), 400, "{bad:?}: {response}");
        response.expect_error_shape().unwrap();
    }
    let not_text = ann.request(Method::POST, "/chat/lobby/message").header("idempotency-key", &b"\xff\xfe"[..]);
    let response = ann.send(not_text.json(&json!({"message": "hello"}))).await.unwrap();
    assert_eq!(response.status(), 400, "{response}");
    response.expect_error_shape().unwrap();
}

#[tokio::test]
async fn rate_limited_post_says_when_to_retry() {
    let stack = Stack::builder()
        .without_rates()
        .gateway("POST_PER_S", "1")
        .gateway("POST_BURST", "3")
        .start()
        .await
        .unwrap();
    let (_stack, ann) = with_lobby(stack).await;
    let responses = try_join_all((0..12).map(|_| ann.try_post("lobby", "hurry", None))).await.unwrap();
    let refused: Vec<_> = responses.iter().filter(|response| response.status() != 204).collect();
    assert!((8..=9).contains(&refused.len()), "{} of 12 were refused", refused.len());
    for response in refused {
        response.expect_error(429, "rate_limited").unwrap();
    }
}
