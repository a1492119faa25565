//! A private room does not exist for those who are not in it.

use rig::{App, Method};
use serde_json::{Value, json};

use crate::scene::lobby;

/// What an answer tells, without what differs in every answer.
fn told(answer: &rig::Answer) -> (u16, Value, Value) {
    let body = answer.json().unwrap();
    (answer.status(), body["code"].clone(), body["status"].clone())
}

async fn every_call(app: &App, room: &str) -> Vec<(u16, Value, Value)> {
    let mut seen = Vec::new();
    for (method, path) in [
        (Method::GET, format!("/chat/{room}")),
        (Method::DELETE, format!("/chat/{room}")),
        (Method::GET, format!("/chat/{room}/users")),
        (Method::GET, format!("/chat/{room}/messagehistory")),
        (Method::GET, format!("/chat/{room}/message?wait_s=1")),
        (Method::DELETE, format!("/chat/{room}/message")),
    ] {
        seen.push(told(&app.call(method, &path).await.unwrap()));
    }
    seen.push(told(&app.try_post(room, "let me in", None).await.unwrap()));
    seen
}

#[tokio::test]
async fn an_outsider_cannot_tell_a_private_room_from_none() {
    let (stack, ann) = lobby().await;
    ann.send_json("/chat/secret", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    let id = ann.post("secret", "for us").await.unwrap();
    let bob = stack.app().unwrap().register("bob").await.unwrap();

    let secret = every_call(&bob, "secret").await;
    assert!(secret.iter().all(|(status, code, _)| *status == 404 && code == "room_not_found"), "{secret:?}");
    assert_eq!(secret, every_call(&bob, "nothing").await);
    assert_eq!(bob.get("/chat/").await.unwrap().json().unwrap(), json!({"data": [{"name": "lobby"}]}));
    // Nor can its messages be had through another room.
    let foreign = bob.history("lobby", &format!("?message_id={id}")).await.unwrap();
    assert!(foreign.is_empty(), "{foreign:?}");

    // Its member has all of it.
    let names = ann.get("/chat/").await.unwrap().json().unwrap();
    assert_eq!(names, json!({"data": [{"name": "lobby"}, {"name": "secret"}]}));
    assert_eq!(ann.get("/chat/secret/users").await.unwrap().json().unwrap(), json!(["ann"]));
    ann.stream("secret").query("wait_s", "1").open().await.unwrap();
}

#[tokio::test]
async fn its_owner_can_delete_it_even_after_leaving() {
    let (_stack, ann) = lobby().await;
    ann.send_json("/chat/secret", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    ann.call(Method::DELETE, "/chat/secret/message").await.unwrap().expect(204).unwrap();
    assert_eq!(ann.get("/chat/secret").await.unwrap().status(), 404);
    ann.call(Method::DELETE, "/chat/secret").await.unwrap().expect(204).unwrap();
    ann.create_room("secret").await.unwrap();
}

#[tokio::test]
async fn a_new_room_of_an_old_name_is_another_room() {
    let (_stack, ann) = lobby().await;
    let first = ann.stream("lobby").open().await.unwrap().ready().id.clone();
    ann.call(Method::DELETE, "/chat/lobby").await.unwrap().expect(204).unwrap();
    ann.create_room("lobby").await.unwrap();
    // A phone that slept through it is told, instead of resuming as if nothing had happened.
    let mut stream = ann.stream("lobby").after(&first).open().await.unwrap();
    let reset = stream.expect("reset", crate::scene::SOON).await.unwrap();
    assert_eq!(reset.json().unwrap()["reason"], "foreign");
}
