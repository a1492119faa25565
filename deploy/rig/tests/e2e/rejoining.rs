//! A user who leaves a room and comes back at once is a member, and stays one.

use std::time::Duration;

use futures_util::future::try_join_all;
use rig::{ApiClient, Backend, Failure, Method, Result, Stack};
use tokio::time::sleep;

use crate::fixture::{SOON, with_lobby};

/// Pauses between leaving and coming back: around the time that the notification of leaving takes to every gateway.
const PAUSES_MS: [u64; 6] = [0, 1, 5, 20, 80, 200];

/// How often each of them is tried.
const TIMES: usize = 3;

/// Leaves at one gateway and opens a stream at another `pause_ms` later: the stream lasts until its own end, and the user is a
/// member.
async fn leave_and_rejoin(user: String, leaving: ApiClient, coming: ApiClient, pause_ms: u64) -> Result<()> {
    for _ in 0..TIMES {
        leaving.call(Method::DELETE, "/chat/lobby/message").await?.expect(204)?;
        sleep(Duration::from_millis(pause_ms)).await;
        let mut stream = coming.stream("lobby").query("wait_s", "1").open().await?;
        let reason = stream.bye(SOON).await?;
        let members = leaving.get("/chat/lobby/users").await?.expect(200)?.json()?;
        let is_in = members.as_array().is_some_and(|members| members.contains(&user.as_str().into()));
        if reason != "bounded" || !is_in {
            let sentence = format!("{user} came back after {pause_ms} ms: bye {reason}, in: {is_in}");
            return Err(Failure::new(sentence));
        }
    }
    Ok(())
}

async fn check_rejoining(backend: Backend, gateways: usize) {
    let (stack, ann) =
        with_lobby(Stack::builder().without_rates().backend(backend).gateways(gateways).start().await.unwrap()).await;
    let mut users = Vec::new();
    for (number, pause_ms) in PAUSES_MS.into_iter().enumerate() {
        let user = format!("user{number}");
        let here = ann.register(&user).await.unwrap();
        let there = here.moved_to(&stack.gateways[gateways - 1].url()).unwrap();
        there.post("lobby", "I am in").await.unwrap();
        users.push(leave_and_rejoin(user, here, there, pause_ms));
    }
    try_join_all(users).await.unwrap();
}

#[tokio::test]
async fn rejoined_user_stays_member() {
    check_rejoining(Backend::Sqlite, 1).await;
}

#[tokio::test]
async fn user_rejoined_at_other_gateway_stays_member() {
    check_rejoining(Backend::Sqlite, 2).await;
}

#[tokio::test]
async fn user_rejoined_at_other_gateway_stays_member_on_postgres() {
    check_rejoining(Backend::Postgres, 2).await;
}
