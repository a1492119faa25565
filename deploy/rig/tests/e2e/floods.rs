//! Whatever one attacker floods a gateway with, others hardly notice.
//!
//! A slice of what `make soak` runs for longer: see `rig::floods`.

use rig::Backend;
use rig::floods::{self, Scale};

async fn withstands(name: &str, backend: Backend) {
    let flood = floods::find(name).unwrap();
    let verdict = floods::run(flood, backend, Scale::SHORT).await.unwrap();
    assert!(verdict.violations.is_empty(), "{verdict}\n{}", verdict.violations.join("\n"));
}

#[tokio::test]
async fn answers_that_nobody_takes_take_no_memory() {
    withstands("answers", Backend::Sqlite).await;
}

#[tokio::test]
async fn one_who_reads_all_history_holds_up_nobody() {
    withstands("reads", Backend::Sqlite).await;
}

#[tokio::test]
async fn nobody_takes_every_connection() {
    withstands("connections", Backend::Sqlite).await;
}

#[tokio::test]
async fn replay_again_and_again_holds_up_nobody() {
    withstands("replay", Backend::Postgres).await;
}
