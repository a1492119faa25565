//! Limits hold across all gateways of an installation.

use rig::{Stack, eventually};
use serde_json::json;

use crate::fixture::{SOON, with_lobby};

#[tokio::test]
async fn stream_limit_holds_across_gateways() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let here = ann.stream("lobby").open().await.unwrap();
    let _there = elsewhere.stream("lobby").open().await.unwrap();
    for client in [&ann, &elsewhere] {
        let refused = client.stream("lobby").response().await.unwrap();
        assert_eq!(refused.status(), 429, "{refused}");
        refused.expect_error_shape().unwrap();
        assert_eq!(refused.json().unwrap()["code"], "too_many_streams");
        assert!(refused.header("retry-after").is_some());
    }
    // When one stream has ended another can be opened.
    drop(here);
    let opened = eventually(SOON, "another stream can be opened", async || elsewhere.stream("lobby").open().await);
    opened.await.unwrap();
}

#[tokio::test]
async fn post_rate_is_counted_across_gateways() {
    let stack = Stack::builder()
        .gateways(2)
        .gateway("POST_PER_S", "1")
        .gateway("POST_BURST", "4")
        .start()
        .await
        .unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut statuses = Vec::new();
    for number in 0..4 {
        for client in [&ann, &elsewhere] {
            let response = client.try_post("lobby", &format!("message {number}"), None).await.unwrap();
            if response.status() == 429 {
                response.expect_error_shape().unwrap();
                assert_eq!(response.json().unwrap()["code"], "rate_limited");
                assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
            }
            statuses.push(response.status());
        }
    }
    let accepted = statuses.iter().filter(|status| **status == 204).count();
    // Four at once, and one more for each second that the loop took.
    assert!((4..=6).contains(&accepted), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn password_guesses_are_counted_across_gateways() {
    let stack = Stack::builder().gateways(2).gateway("LOGIN_PER_ACCOUNT", "3").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let guess = json!({"email": "ann", "password": "not the password"});
    let mut statuses = Vec::new();
    for client in [&ann, &elsewhere, &ann, &elsewhere] {
        statuses.push(client.send_json("/auth/login", &guess).await.unwrap().status());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    // An account that does not exist is limited in the same way: the response does not reveal which it is.
    let nobody = json!({"email": "nobody", "password": "not the password"});
    statuses.clear();
    for _ in 0..4 {
        statuses.push(ann.send_json("/auth/login", &nobody).await.unwrap().status());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
}

#[tokio::test]
async fn forwarded_header_does_not_change_counted_address() {
    let stack = Stack::builder().gateway("REGISTER_PER_ADDRESS", "1").start().await.unwrap();
    let client = stack.client().unwrap();
    client.register("ann").await.unwrap();
    let body = json!({"email": "bob", "username": "bob", "password": "secret of bob", "public_id": "bob"});
    let request = client.request(rig::Method::POST, "/user/").header("x-forwarded-for", "9.9.9.9").json(&body);
    assert_eq!(client.send(request).await.unwrap().status(), 429);
}
