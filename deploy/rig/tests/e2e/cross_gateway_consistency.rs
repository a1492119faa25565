//! A change that one gateway has acknowledged holds at the other at once, even if the other was paused.

use std::time::{Duration, Instant};

use futures_util::future::join;
use rig::{ApiClient, Backend, Failure, Method, Result, Stack, eventually};
use tokio::time::sleep;

use crate::fixture::{SOON, with_lobby};

/// Longer than any gateway uses its caches without confirmation.
const PAUSE: Duration = Duration::from_millis(1_300);

/// How often each change that must hold within milliseconds is repeated.
const TIMES: usize = 25;

/// Within this time a change is acknowledged even while a gateway is paused: one second, with a margin for a busy machine.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(4);

/// Two gateways, `ann` at both, and her room `lobby`.
async fn both(backend: Backend) -> (Stack, ApiClient, ApiClient) {
    let stack = Stack::builder().without_rates().backend(backend).gateways(2).start().await.unwrap();
    let (stack, here) = with_lobby(stack).await;
    let there = here.moved_to(&stack.gateways[1].url()).unwrap();
    (stack, here, there)
}

async fn delete(client: &ApiClient, path: &str) -> Result<()> {
    client.call(Method::DELETE, path).await?.expect(204).map(drop)
}

/// Waits until the message is in history.
async fn is_stored(client: &ApiClient, id: &str) -> Result<()> {
    eventually(SOON, "what was acknowledged is in history", async || {
        let found = client.history("lobby", &format!("?message_id={id}")).await?;
        if found.is_empty() {
            Err(Failure::new(format!("{id} is not")))
        } else {
            Ok(())
        }
    })
    .await
}

async fn check_resumed_gateway(backend: Backend) {
    let (stack, here, there) = both(backend).await;
    let bob = here.register("bob").await.unwrap();
    let bob_there = bob.moved_to(&stack.gateways[1].url()).unwrap();
    for round in 0..3 {
        there.post("lobby", "before").await.unwrap();
        bob_there.post("lobby", "I am in").await.unwrap();
        let mut of_bob = bob_there.stream("lobby").open().await.unwrap();
        stack.gateways[1].process.pause().unwrap();
        let began = Instant::now();
        delete(&bob, "/chat/lobby/message").await.unwrap();
        delete(&here, "/chat/lobby").await.unwrap();
        here.create_room("lobby").await.unwrap();
        assert!(began.elapsed() < ACKNOWLEDGED_WITHIN * 3, "{:?}", began.elapsed());
        let resuming = async {
            sleep(PAUSE).await;
            stack.gateways[1].process.resume()
        };
        let (posted, resumed) = join(there.post("lobby", &format!("to the new room {round}")), resuming).await;
        resumed.unwrap();
        is_stored(&here, &posted.unwrap()).await.unwrap();
        assert_eq!(of_bob.bye(SOON).await.unwrap(), "removed");
    }
    bob_there.post("lobby", "I am in").await.unwrap();
    stack.gateways[1].process.pause().unwrap();
    bob.logout().await.unwrap();
    let (refused, resumed) =
        join(bob_there.try_post("lobby", "too late", None), async { stack.gateways[1].process.resume() }).await;
    resumed.unwrap();
    refused.unwrap().expect_error(401, "session_revoked").unwrap();
}

#[tokio::test]
async fn resumed_gateway_accepts_nothing_for_a_deleted_room() {
    check_resumed_gateway(Backend::Sqlite).await;
}

#[tokio::test]
async fn resumed_gateway_accepts_nothing_for_deleted_room_on_postgres() {
    check_resumed_gateway(Backend::Postgres).await;
}

async fn check_acknowledged_changes(backend: Backend) {
    let (stack, here, there) = both(backend).await;
    let bob = here.register("bob").await.unwrap();
    let bob_there = bob.moved_to(&stack.gateways[1].url()).unwrap();
    for round in 0..TIMES {
        // Deleted and created again at one gateway, posted to at the other.
        there.get("/chat/lobby").await.unwrap().expect(200).unwrap();
        delete(&here, "/chat/lobby").await.unwrap();
        there.get("/chat/lobby").await.unwrap().expect_error(404, "room_not_found").unwrap();
        here.create_room("lobby").await.unwrap();
        there.get("/chat/lobby").await.unwrap().expect(200).unwrap();
        let id = there.post("lobby", &format!("message {round}")).await.unwrap();
        is_stored(&here, &id).await.unwrap();
        // Left at one gateway, posted to at the other.
        bob_there.post("lobby", "I am in").await.unwrap();
        delete(&bob, "/chat/lobby/message").await.unwrap();
        bob_there.post("lobby", "I am in again").await.unwrap();
        let members = here.get("/chat/lobby/users").await.unwrap().json().unwrap();
        assert_eq!(members, serde_json::json!(["ann", "bob"]), "round {round}");
    }
}

#[tokio::test]
async fn acknowledged_changes_hold_at_other_gateway_at_once() {
    check_acknowledged_changes(Backend::Sqlite).await;
}

#[tokio::test]
async fn acknowledged_changes_hold_at_other_gateway_on_postgres() {
    check_acknowledged_changes(Backend::Postgres).await;
}

#[tokio::test]
async fn concurrent_deletes_of_a_room_succeed_once() {
    let (_stack, here, there) = both(Backend::Sqlite).await;
    for _ in 0..TIMES {
        let (one, other) =
            join(here.call(Method::DELETE, "/chat/lobby"), there.call(Method::DELETE, "/chat/lobby")).await;
        let mut responses = [one.unwrap().status(), other.unwrap().status()];
        responses.sort_unstable();
        assert_eq!(responses, [204, 404]);
        here.create_room("lobby").await.unwrap();
    }
}

#[tokio::test]
async fn change_is_acknowledged_at_once_while_gateways_are_healthy() {
    let (_stack, here, _there) = both(Backend::Sqlite).await;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        delete(&here, "/chat/lobby/message").await.unwrap();
        times.push(began.elapsed());
        here.post("lobby", "back").await.unwrap();
    }
    times.sort_unstable();
    // A gateway that does not confirm is waited for, for a second.
    assert!(times[TIMES / 2] < Duration::from_millis(700), "{times:?}");
}
