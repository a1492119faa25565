//! The calls about rooms and messages: every success and every failure the contract lists.

use rig::{ApiClient, Method};
use serde_json::{Value, json};

use crate::fixture::lobby;

/// Method, rest of the path after the room, body.
fn calls_on_a_room() -> Vec<(Method, &'static str, Option<Value>)> {
    vec![
        (Method::GET, "", None),
        (Method::DELETE, "", None),
        (Method::GET, "/users", None),
        (Method::GET, "/messagehistory", None),
        (Method::GET, "/message", None),
        (Method::POST, "/message", Some(json!({"message": "hello"}))),
        (Method::DELETE, "/message", None),
    ]
}

async fn call(
    client: &ApiClient,
    room: &str,
    (method, rest, body): (Method, &str, Option<Value>),
) -> rig::HttpResponse {
    let mut request = client.request(method, &format!("/chat/{room}{rest}"));
    if let Some(body) = body {
        request = request.json(&body);
    }
    client.send(request).await.unwrap()
}

#[tokio::test]
async fn room_calls_require_token_then_room() {
    let (stack, ann) = lobby().await;
    let anyone = stack.client().unwrap();
    anyone.get("/chat/").await.unwrap().expect_error(401, "unauthorized").unwrap();
    anyone.call(Method::POST, "/chat/new").await.unwrap().expect_error(401, "unauthorized").unwrap();
    for what in calls_on_a_room() {
        for room in ["lobby", "nowhere"] {
            call(&anyone, room, what.clone()).await.expect_error(401, "unauthorized").unwrap();
        }
        call(&ann, "nowhere", what).await.expect_error(404, "room_not_found").unwrap();
    }
    assert_eq!(ann.get("/chat/").await.unwrap().json().unwrap(), json!({"data": [{"name": "lobby"}]}));
}

#[tokio::test]
async fn room_is_created_once_under_a_valid_name() {
    let (_stack, ann) = lobby().await;
    for taken in ["lobby", "Lobby"] {
        let refused = ann.call(Method::POST, &format!("/chat/{taken}")).await.unwrap();
        refused.expect_error(409, "room_exists").unwrap();
    }
    let longest = "x".repeat(64);
    for good in ["a", "Bar", "a.b_c-d", "...", &longest] {
        ann.create_room(good).await.unwrap();
        let room = ann.get(&format!("/chat/{good}")).await.unwrap().expect(200).unwrap();
        assert_eq!(room.json().unwrap(), json!({"name": good}));
    }
    let too_long = "x".repeat(65);
    for bad in [
        "a%20b",
        "%C3%A4",
        "a%0Ab",
        "a%00",
        "a%2Fb",
        "a+b",
        "%F0%9F%A6%80",
        "%FF",
        &too_long,
    ] {
        let response = ann.call(Method::POST, &format!("/chat/{bad}")).await.unwrap();
        assert_eq!(response.status(), 400, "{bad}: {response}");
        response.expect_error_shape().unwrap();
    }
}

#[tokio::test]
async fn only_owner_or_admin_deletes_a_room() {
    let (stack, admin) = lobby().await;
    let anyone = stack.client().unwrap();
    let bob = anyone.register("bob").await.unwrap();
    let eve = anyone.register("eve").await.unwrap();
    for room in ["one", "two"] {
        bob.create_room(room).await.unwrap();
    }
    bob.post("one", "of the first room").await.unwrap();
    eve.call(Method::DELETE, "/chat/one").await.unwrap().expect_error(403, "forbidden").unwrap();

    let response = bob.call(Method::DELETE, "/chat/one").await.unwrap().expect(204).unwrap();
    assert_eq!(response.text(), "");
    admin.call(Method::DELETE, "/chat/two").await.unwrap().expect(204).unwrap();
    for room in ["one", "two"] {
        for what in calls_on_a_room() {
            call(&bob, room, what).await.expect_error(404, "room_not_found").unwrap();
        }
    }

    // A new room of the same name has nothing of the old one.
    bob.create_room("one").await.unwrap();
    assert_eq!(eve.history("one", "").await.unwrap(), Vec::<Value>::new());
    eve.post("one", "of the second room").await.unwrap();
    let mut stream = eve.stream("one").query("last_event_id", "1-0").open().await.unwrap();
    assert_eq!(stream.expect("reset", crate::fixture::SOON).await.unwrap().json().unwrap()["reason"], "foreign");
}

#[tokio::test]
async fn streaming_and_posting_join_and_leaving_leaves() {
    let (stack, ann) = lobby().await;
    let anyone = stack.client().unwrap();
    let bob = anyone.register("bob").await.unwrap();
    let eve = anyone.register("eve").await.unwrap();
    let members = async || ann.get("/chat/lobby/users").await.unwrap().expect(200).unwrap().json().unwrap();

    // Reading does not join.
    bob.history("lobby", "").await.unwrap();
    bob.get("/chat/lobby").await.unwrap().expect(200).unwrap();
    assert_eq!(members().await, json!(["ann"]));
    let stream = bob.stream("lobby").open().await.unwrap();
    eve.post("lobby", "hello").await.unwrap();
    assert_eq!(members().await, json!(["ann", "bob", "eve"]));
    drop(stream);
    assert_eq!(members().await, json!(["ann", "bob", "eve"]));

    let response = eve.call(Method::DELETE, "/chat/lobby/message").await.unwrap().expect(204).unwrap();
    assert_eq!(response.text(), "");
    assert_eq!(members().await, json!(["ann", "bob"]));
    // Her messages stay, and she may come back.
    eve.post("lobby", "again").await.unwrap();
    assert_eq!(members().await, json!(["ann", "bob", "eve"]));
}
