//! For users who are not members a private room does not exist.

use rig::{ApiClient, Method};
use serde_json::{Value, json};

use crate::fixture::lobby;

/// The status and codes of a response, without the parts that differ in every response.
fn status_and_codes(response: &rig::HttpResponse) -> (u16, Value, Value) {
    let body = response.json().unwrap();
    (response.status(), body["code"].clone(), body["status"].clone())
}

async fn every_call(client: &ApiClient, room: &str) -> Vec<(u16, Value, Value)> {
    let mut seen = Vec::new();
    for (method, path) in [
        (Method::GET, format!("/chat/{room}")),
        (Method::DELETE, format!("/chat/{room}")),
        (Method::GET, format!("/chat/{room}/users")),
        (Method::GET, format!("/chat/{room}/messagehistory")),
        (Method::GET, format!("/chat/{room}/message?wait_s=1")),
        (Method::DELETE, format!("/chat/{room}/message")),
    ] {
        seen.push(status_and_codes(&client.call(method, &path).await.unwrap()));
    }
    seen.push(status_and_codes(&client.try_post(room, "let me in", None).await.unwrap()));
    seen
}

#[tokio::test]
async fn outsider_cannot_distinguish_private_room_from_missing() {
    let (stack, ann) = lobby().await;
    ann.send_json("/chat/secret", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    let id = ann.post("secret", "for us").await.unwrap();
    let bob = stack.client().unwrap().register("bob").await.unwrap();

    let secret = every_call(&bob, "secret").await;
    assert!(secret.iter().all(|(status, code, _)| *status == 404 && code == "room_not_found"), "{secret:?}");
    assert_eq!(secret, every_call(&bob, "nothing").await);
    assert_eq!(bob.get("/chat/").await.unwrap().json().unwrap(), json!({"data": [{"name": "lobby"}]}));
    // Its messages cannot be read through another room either.
    let foreign = bob.history("lobby", &format!("?message_id={id}")).await.unwrap();
    assert!(foreign.is_empty(), "{foreign:?}");

    // Its member sees all of it.
    let names = ann.get("/chat/").await.unwrap().json().unwrap();
    assert_eq!(names, json!({"data": [{"name": "lobby"}, {"name": "secret"}]}));
    assert_eq!(ann.get("/chat/secret/users").await.unwrap().json().unwrap(), json!(["ann"]));
    ann.stream("secret").query("wait_s", "1").open().await.unwrap();
}

#[tokio::test]
async fn owner_deletes_private_room_after_leaving() {
    let (_stack, ann) = lobby().await;
    ann.send_json("/chat/secret", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    ann.call(Method::DELETE, "/chat/secret/message").await.unwrap().expect(204).unwrap();
    assert_eq!(ann.get("/chat/secret").await.unwrap().status(), 404);
    ann.call(Method::DELETE, "/chat/secret").await.unwrap().expect(204).unwrap();
    ann.create_room("secret").await.unwrap();
}

#[tokio::test]
async fn recreated_room_resets_old_cursors() {
    let (_stack, ann) = lobby().await;
    let first = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    ann.call(Method::DELETE, "/chat/lobby").await.unwrap().expect(204).unwrap();
    ann.create_room("lobby").await.unwrap();
    // A client that was away meanwhile gets a reset, so that it does not resume in the wrong room.
    let mut stream = ann.stream("lobby").after(&first).open().await.unwrap();
    let reset = stream.expect("reset", crate::fixture::SOON).await.unwrap();
    assert_eq!(reset.json().unwrap()["reason"], "foreign");
}
