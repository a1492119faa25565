//! Who leaves a room and comes back at once is in it, and stays in it.

use std::time::Duration;

use futures_util::future::try_join_all;
use rig::{App, Backend, Failure, Method, Result, Stack};
use tokio::time::sleep;

use crate::scene::{SOON, furnish};

/// Pauses between leaving and coming back: around the time that the news of leaving takes to every gateway.
const PAUSES_MS: [u64; 6] = [0, 1, 5, 20, 80, 200];

/// How often each of them is tried.
const TIMES: usize = 3;

/// Leaves at one gateway and follows at another `pause_ms` later: the stream lives until its own end, and the user is in.
async fn comes_back(user: String, leaving: App, coming: App, pause_ms: u64) -> Result<()> {
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

async fn all_come_back(backend: Backend, gateways: usize) {
    let (stack, ann) =
        furnish(Stack::builder().without_rates().backend(backend).gateways(gateways).start().await.unwrap()).await;
    let mut stories = Vec::new();
    for (number, pause_ms) in PAUSES_MS.into_iter().enumerate() {
        let user = format!("user{number}");
        let here = ann.register(&user).await.unwrap();
        let there = here.moved_to(&stack.gateways[gateways - 1].url()).unwrap();
        there.post("lobby", "I am in").await.unwrap();
        stories.push(comes_back(user, here, there, pause_ms));
    }
    try_join_all(stories).await.unwrap();
}

#[tokio::test]
async fn who_leaves_and_comes_back_at_once_stays() {
    all_come_back(Backend::Sqlite, 1).await;
}

#[tokio::test]
async fn who_comes_back_at_another_gateway_stays() {
    all_come_back(Backend::Sqlite, 2).await;
}

#[tokio::test]
async fn who_comes_back_at_another_gateway_stays_on_postgres() {
    all_come_back(Backend::Postgres, 2).await;
}
