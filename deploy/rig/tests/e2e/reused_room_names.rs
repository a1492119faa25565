//! Names of deleted rooms that are used again.

use rig::{Method, Stack, eventually};
use serde_json::json;

use crate::fixture::{SOON, lobby, with_lobby};

#[tokio::test]
async fn retry_into_a_recreated_room_is_refused() {
    let (_stack, ann) = lobby().await;
    ann.try_post("lobby", "said once", Some("k1")).await.unwrap().expect(204).unwrap();
    eventually(SOON, "it is stored", async || match ann.history("lobby", "").await?.len() {
        1 => Ok(()),
        other => Err(rig::Failure::new(format!("{other} messages"))),
    })
    .await
    .unwrap();
    ann.call(Method::DELETE, "/chat/lobby").await.unwrap().expect(204).unwrap();
    let gone = ann.try_post("lobby", "said once", Some("k1")).await.unwrap();
    gone.expect_error(404, "room_not_found").unwrap();
    ann.create_room("lobby").await.unwrap();
    let again = ann.try_post("lobby", "said once", Some("k1")).await.unwrap();
    again.expect_error(404, "room_deleted").unwrap();
    let other = ann.try_post("lobby", "something else", Some("k1")).await.unwrap();
    other.expect_error(422, "idempotency_key_reused").unwrap();
    ann.try_post("lobby", "said once", Some("k2")).await.unwrap().expect(204).unwrap();
}

#[tokio::test]
async fn deleted_room_name_is_reserved_for_its_owner() {
    let stack = Stack::builder().gateway("FIRST_USER_IS_ADMIN", "true").start().await.unwrap();
    let (_stack, admin) = with_lobby(stack).await;
    let (bob, carl) = (admin.register("bob").await.unwrap(), admin.register("carl").await.unwrap());
    bob.send_json("/chat/den", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    bob.call(Method::DELETE, "/chat/den").await.unwrap().expect(204).unwrap();
    for name in ["den", "DEN"] {
        let refused = carl.call(Method::POST, &format!("/chat/{name}")).await.unwrap();
        refused.expect_error(409, "room_name_reserved").unwrap();
    }
    // An admin can use it. Members of the former room of that name do not join this one by accident.
    admin.create_room("den").await.unwrap();
    bob.try_post("den", "for my friends alone", None)
        .await
        .unwrap()
        .expect_error(409, "room_replaced")
        .unwrap();
    let refused = bob.stream("den").query("wait_s", "1").response().await.unwrap();
    refused.expect_error(409, "room_replaced").unwrap();
    carl.post("den", "hello").await.unwrap();
    bob.call(Method::POST, "/chat/den/join").await.unwrap().expect(204).unwrap();
    bob.post("den", "for all").await.unwrap();
    bob.call(Method::POST, "/chat/none/join")
        .await
        .unwrap()
        .expect_error(404, "room_not_found")
        .unwrap();
}
