//! Limits hold across all gateways of an installation.

use rig::{Stack, eventually};
use serde_json::json;

use crate::scene::{SOON, furnish};

#[tokio::test]
async fn a_user_has_no_more_streams_for_using_two_gateways() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let here = ann.stream("lobby").open().await.unwrap();
    let _there = elsewhere.stream("lobby").open().await.unwrap();
    for app in [&ann, &elsewhere] {
        let refused = app.stream("lobby").answer().await.unwrap();
        assert_eq!(refused.status(), 429, "{refused}");
        refused.expect_error_shape().unwrap();
        assert_eq!(refused.json().unwrap()["code"], "too_many_streams");
        assert!(refused.header("retry-after").is_some());
    }
    // One that has ended makes place for another.
    drop(here);
    let opened = eventually(SOON, "there is a place again", async || elsewhere.stream("lobby").open().await);
    opened.await.unwrap();
}

#[tokio::test]
async fn posts_of_a_user_are_counted_together() {
    let stack = Stack::builder()
        .gateways(2)
        .gateway("POST_PER_S", "1")
        .gateway("POST_BURST", "4")
        .start()
        .await
        .unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut statuses = Vec::new();
    for number in 0..4 {
        for app in [&ann, &elsewhere] {
            let answer = app.try_post("lobby", &format!("message {number}"), None).await.unwrap();
            if answer.status() == 429 {
                answer.expect_error_shape().unwrap();
                assert_eq!(answer.json().unwrap()["code"], "rate_limited");
                assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
            }
            statuses.push(answer.status());
        }
    }
    let accepted = statuses.iter().filter(|status| **status == 204).count();
    // Four at once, and one more for each second that the loop took.
    assert!((4..=6).contains(&accepted), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn guessing_a_password_is_slowed_down_on_all_gateways_alike() {
    let stack = Stack::builder().gateways(2).gateway("LOGIN_PER_ACCOUNT", "3").start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let guess = json!({"email": "ann", "password": "not the password"});
    let mut statuses = Vec::new();
    for app in [&ann, &elsewhere, &ann, &elsewhere] {
        statuses.push(app.send_json("/auth/login", &guess).await.unwrap().status());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    // An account that does not exist is slowed down the same way: the answer does not tell which it is.
    let nobody = json!({"email": "nobody", "password": "not the password"});
    statuses.clear();
    for _ in 0..4 {
        statuses.push(ann.send_json("/auth/login", &nobody).await.unwrap().status());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
}

#[tokio::test]
async fn a_client_cannot_choose_the_address_that_is_counted() {
    let stack = Stack::builder().gateway("REGISTER_PER_ADDRESS", "1").start().await.unwrap();
    let app = stack.app().unwrap();
    app.register("ann").await.unwrap();
    let body = json!({"email": "bob", "username": "bob", "password": "secret of bob", "public_id": "bob"});
    let request = app.request(rig::Method::POST, "/user/").header("x-forwarded-for", "9.9.9.9").json(&body);
    assert_eq!(app.send(request).await.unwrap().status(), 429);
}
