//! Floods of one attacker hardly affect other users.
//!
//! A slice of what `make soak` runs for longer: see `rig::floods`.

use rig::Backend;
use rig::floods::{self, Scale};

use crate::RUNS;

async fn check_flood(name: &str, backend: Backend) {
    let _run = RUNS.acquire().await.unwrap();
    let flood = floods::find(name).unwrap();
    let verdict = floods::run(flood, backend, Scale::SHORT).await.unwrap();
    println!("{verdict}");
    assert!(verdict.violations.is_empty(), "{}", verdict.violations.join("\n"));
}

#[tokio::test]
async fn unread_responses_take_no_memory() {
    check_flood("answers", Backend::Sqlite).await;
}

#[tokio::test]
async fn history_reader_does_not_delay_others() {
    check_flood("reads", Backend::Sqlite).await;
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    check_flood("connections", Backend::Sqlite).await;
}

#[tokio::test]
async fn repeated_replay_does_not_delay_others() {
    check_flood("replay", Backend::Postgres).await;
}
