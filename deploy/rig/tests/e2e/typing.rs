//! Typing: members see who types in a room, at every gateway, and nobody sees it of somebody who is no member.

use std::time::Duration;

use rig::{ApiClient, HttpResponse, Method, Stack};
use serde_json::json;

use crate::fixture::{SOON, with_lobby};

/// Long enough for something that must not come.
const SILENCE: Duration = Duration::from_millis(700);

async fn types(client: &ApiClient, typing: bool) -> HttpResponse {
    let request = client.request(Method::POST, "/chat/lobby/typing").json(&json!({"typing": typing}));
    client.send(request).await.unwrap()
}

#[tokio::test]
async fn members_see_who_types() {
    let (stack, ann) = with_lobby(Stack::builder().without_limits().gateways(2).start().await.unwrap()).await;
    let bob = ann.register("bob").await.unwrap().moved_to(&stack.gateways[1].url()).unwrap();
    let cid = ann.register("cid").await.unwrap();
    bob.call(Method::POST, "/chat/lobby/join").await.unwrap().expect(204).unwrap();
    let mut of_bob = bob.user_events().query("types", "typing").open().await.unwrap();
    let mut of_ann = ann.user_events().query("types", "typing").open().await.unwrap();
    for typing in [true, false] {
        types(&ann, typing).await.expect(204).unwrap();
        let told = of_bob.expect("typing", SOON).await.unwrap().json().unwrap();
        assert_eq!(told, json!({"name": "lobby", "username": "ann", "typing": typing}));
    }
    // The same again within a second is told to nobody.
    types(&ann, true).await.expect(204).unwrap();
    types(&cid, true).await.expect_error(403, "forbidden").unwrap();
    assert!(of_bob.next(SILENCE).await.is_err() && of_ann.next(SILENCE).await.is_err());
}

/// Nobody is shown as typing to a member who was not there when they typed.
#[tokio::test]
async fn who_typed_before_a_room_came_is_not_shown() {
    let (_stack, ann) = with_lobby(Stack::builder().without_limits().start().await.unwrap()).await;
    let bob = ann.register("bob").await.unwrap();
    let follow = || bob.user_events().query("types", "rooms,typing").open();
    let mut of_bob = follow().await.unwrap();
    // Somebody else follows the room meanwhile.
    let _of_ann = ann.user_events().open().await.unwrap();
    types(&ann, true).await.expect(204).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    bob.call(Method::POST, "/chat/lobby/join").await.unwrap().expect(204).unwrap();
    of_bob.expect("rooms", SOON).await.unwrap();
    let next = of_bob.next(SILENCE).await;
    assert!(next.is_err(), "{next:?}");
    types(&ann, true).await.expect(204).unwrap();
    of_bob.expect("typing", SOON).await.unwrap();
}
