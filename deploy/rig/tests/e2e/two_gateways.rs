//! What one gateway has answered holds at the other one, at once, and also when that one had stood still.

use std::time::{Duration, Instant};

use futures_util::future::join;
use rig::{App, Backend, Failure, Method, Result, Stack, eventually};
use tokio::time::sleep;

use crate::scene::{SOON, furnish};

/// Longer than any gateway trusts what it remembers.
const PAUSE: Duration = Duration::from_millis(1_300);

/// How often what must hold within milliseconds is tried.
const TIMES: usize = 25;

/// Within this time a change is answered also while a gateway stands still: one second, with air for a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);

/// Two gateways, `ann` at both, and her room `lobby`.
async fn both(backend: Backend) -> (Stack, App, App) {
    let stack = Stack::builder().without_rates().backend(backend).gateways(2).start().await.unwrap();
    let (stack, here) = furnish(stack).await;
    let there = here.moved_to(&stack.gateways[1].url()).unwrap();
    (stack, here, there)
}

async fn delete(app: &App, path: &str) -> Result<()> {
    app.call(Method::DELETE, path).await?.expect(204).map(drop)
}

/// Waits until the message is in history.
async fn is_stored(app: &App, id: &str) -> Result<()> {
    eventually(SOON, "what was acknowledged is in history", async || {
        let found = app.history("lobby", &format!("?message_id={id}")).await?;
        if found.is_empty() {
            Err(Failure::new(format!("{id} is not")))
        } else {
            Ok(())
        }
    })
    .await
}

async fn a_gateway_that_stood_still_is_current(backend: Backend) {
    let (stack, here, there) = both(backend).await;
    let bob = here.register("bob").await.unwrap();
    let bob_there = bob.moved_to(&stack.gateways[1].url()).unwrap();
    for round in 0..3 {
        there.post("lobby", "before").await.unwrap();
        bob_there.post("lobby", "I am in").await.unwrap();
        let mut of_bob = bob_there.stream("lobby").open().await.unwrap();
        stack.gateways[1].service.pause().unwrap();
        let began = Instant::now();
        delete(&bob, "/chat/lobby/message").await.unwrap();
        delete(&here, "/chat/lobby").await.unwrap();
        here.create_room("lobby").await.unwrap();
        assert!(began.elapsed() < ANSWERED_WITHIN * 3, "{:?}", began.elapsed());
        let sleeping = async {
            sleep(PAUSE).await;
            stack.gateways[1].service.resume()
        };
        let (posted, resumed) = join(there.post("lobby", &format!("to the new room {round}")), sleeping).await;
        resumed.unwrap();
        is_stored(&here, &posted.unwrap()).await.unwrap();
        assert_eq!(of_bob.bye(SOON).await.unwrap(), "removed");
    }
    bob_there.post("lobby", "I am in").await.unwrap();
    stack.gateways[1].service.pause().unwrap();
    bob.logout().await.unwrap();
    let (refused, resumed) =
        join(bob_there.try_post("lobby", "too late", None), async { stack.gateways[1].service.resume() }).await;
    resumed.unwrap();
    refused.unwrap().expect_error(401, "session_revoked").unwrap();
}

#[tokio::test]
async fn a_gateway_that_stood_still_takes_nothing_for_a_deleted_room() {
    a_gateway_that_stood_still_is_current(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_gateway_that_stood_still_takes_nothing_for_a_deleted_room_on_postgres() {
    a_gateway_that_stood_still_is_current(Backend::Postgres).await;
}

async fn what_was_answered_holds_at_once(backend: Backend) {
    let (stack, here, there) = both(backend).await;
    let bob = here.register("bob").await.unwrap();
    let bob_there = bob.moved_to(&stack.gateways[1].url()).unwrap();
    for round in 0..TIMES {
        // Deleted and made again here, posted to there.
        there.get("/chat/lobby").await.unwrap().expect(200).unwrap();
        delete(&here, "/chat/lobby").await.unwrap();
        there.get("/chat/lobby").await.unwrap().expect_error(404, "room_not_found").unwrap();
        here.create_room("lobby").await.unwrap();
        there.get("/chat/lobby").await.unwrap().expect(200).unwrap();
        let id = there.post("lobby", &format!("message {round}")).await.unwrap();
        is_stored(&here, &id).await.unwrap();
        // Left here, posted there.
        bob_there.post("lobby", "I am in").await.unwrap();
        delete(&bob, "/chat/lobby/message").await.unwrap();
        bob_there.post("lobby", "I am in again").await.unwrap();
        let members = here.get("/chat/lobby/users").await.unwrap().json().unwrap();
        assert_eq!(members, serde_json::json!(["ann", "bob"]), "round {round}");
    }
}

#[tokio::test]
async fn what_was_answered_holds_at_the_other_gateway_at_once() {
    what_was_answered_holds_at_once(Backend::Sqlite).await;
}

#[tokio::test]
async fn what_was_answered_holds_at_the_other_gateway_at_once_on_postgres() {
    what_was_answered_holds_at_once(Backend::Postgres).await;
}

#[tokio::test]
async fn of_two_who_delete_a_room_at_once_one_has_done_it() {
    let (_stack, here, there) = both(Backend::Sqlite).await;
    for _ in 0..TIMES {
        let (one, other) =
            join(here.call(Method::DELETE, "/chat/lobby"), there.call(Method::DELETE, "/chat/lobby")).await;
        let mut answers = [one.unwrap().status(), other.unwrap().status()];
        answers.sort_unstable();
        assert_eq!(answers, [204, 404]);
        here.create_room("lobby").await.unwrap();
    }
}

#[tokio::test]
async fn a_change_is_answered_at_once_while_all_gateways_are_well() {
    let (_stack, here, _there) = both(Backend::Sqlite).await;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        delete(&here, "/chat/lobby/message").await.unwrap();
        times.push(began.elapsed());
        here.post("lobby", "back").await.unwrap();
    }
    times.sort_unstable();
    // Who was not told is waited for, for a second.
    assert!(times[TIMES / 2] < Duration::from_millis(700), "{times:?}");
}
