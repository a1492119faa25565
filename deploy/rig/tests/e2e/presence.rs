//! Presence: two users of a direct room see each other come, also through two gateways, if the operator wants it.

use std::time::Duration;

use rig::{ApiClient, EventStream, Failure, Method, Stack, eventually};
use serde_json::json;

use crate::fixture::SOON;

/// Each user has a turn every 30 s.
const NEXT_TURN: Duration = Duration::from_secs(40);

/// "Who has gone is told within two minutes."
const GONE: Duration = Duration::from_mins(2);

/// Long enough for something that must not come: a new stream has its first turn within a second.
const SILENCE: Duration = Duration::from_secs(3);

async fn watch(client: &ApiClient) -> EventStream {
    client.user_events().query("types", "presence").open().await.unwrap()
}

/// Whether no presence has come so far, and none comes.
async fn tells_nothing(stream: &mut EventStream) -> bool {
    stream
        .expect("presence", SILENCE)
        .await
        .is_err_and(|failure| failure.to_string().contains("no event within"))
}

async fn three(stack: &Stack) -> [ApiClient; 3] {
    let ann = stack.client().unwrap().register("ann").await.unwrap();
    let url = stack.gateways[1].url();
    let bob = ann.register("bob").await.unwrap().moved_to(&url).unwrap();
    let cid = ann.register("cid").await.unwrap().moved_to(&url).unwrap();
    let room = ann.call(Method::PUT, "/direct/bob").await.unwrap().expect(201).unwrap().json().unwrap();
    let room = room["name"].as_str().unwrap();
    // Bob is seen once he has read in it.
    ann.post(room, "hello").await.unwrap();
    eventually(SOON, "the message is there", async || {
        let is_there = bob.history(room, "").await?.iter().any(|message| message["message"] == "hello");
        if is_there {
            Ok(())
        } else {
            Err(Failure::new("it is not"))
        }
    })
    .await
    .unwrap();
    let read = bob.request(Method::PUT, &format!("/chat/{room}/read")).json(&json!({"seq": 3}));
    bob.send(read).await.unwrap().expect(204).unwrap();
    [ann, bob, cid]
}

#[tokio::test]
async fn users_of_a_direct_room_see_each_other_come() {
    let stack = Stack::builder().without_rates().gateways(2).gateway("PRESENCE", "true").start().await.unwrap();
    let [ann, bob, cid] = three(&stack).await;
    let mut of_ann = watch(&ann).await;
    assert!(tells_nothing(&mut of_ann).await, "nobody is there");
    let mut of_cid = watch(&cid).await;
    let mut of_bob = watch(&bob).await;
    let online = |username| json!({"users": [{"username": username, "online": true}]});
    let told = of_bob.expect("presence", SOON).await.unwrap();
    assert_eq!((told.json().unwrap(), told.id.as_str()), (online("ann"), of_bob.ready().id.as_str()));
    assert_eq!(of_ann.expect("presence", NEXT_TURN).await.unwrap().json().unwrap(), online("bob"));
    assert!(tells_nothing(&mut of_cid).await, "they share no direct room");
}

#[tokio::test]
async fn user_of_a_direct_room_is_seen_to_go_within_two_minutes() {
    let stack = Stack::builder().without_rates().gateways(2).gateway("PRESENCE", "true").start().await.unwrap();
    let [ann, bob, _] = three(&stack).await;
    let of_bob = watch(&bob).await;
    let mut of_ann = watch(&ann).await;
    let presence = |online| json!({"users": [{"username": "bob", "online": online}]});
    assert_eq!(of_ann.expect("presence", NEXT_TURN).await.unwrap().json().unwrap(), presence(true));
    drop(of_bob);
    assert_eq!(of_ann.expect("presence", GONE).await.unwrap().json().unwrap(), presence(false));
}

#[tokio::test]
async fn nobody_sees_who_is_there_unless_the_operator_wants_it() {
    let stack = Stack::builder().without_rates().gateways(2).start().await.unwrap();
    let [ann, bob, _] = three(&stack).await;
    let (mut of_ann, mut of_bob) = (watch(&ann).await, watch(&bob).await);
    assert!(tells_nothing(&mut of_ann).await && tells_nothing(&mut of_bob).await);
}
