//! On Postgres all workers are active at the same time, each with its share of the partitions, and take over from each other.

use std::collections::HashSet;

use rig::{ApiClient, Backend, Failure, Result, Stack, eventually};

use crate::fixture::{SOON, with_lobby};
use crate::worker_takeover::{ROOMS, TAKEN_OVER_WITHIN, under_posting, urls, wait_for_progress, wait_for_workers};

/// Three workers that start together and two gateways on Postgres, where each worker owns its share.
async fn three_workers() -> (Stack, ApiClient) {
    let stack = Stack::builder().without_rates().backend(Backend::Postgres).gateways(2).workers(3);
    let (stack, ann) = with_lobby(stack.start().await.unwrap()).await;
    for room in &ROOMS[1..] {
        ann.create_room(room).await.unwrap();
    }
    wait_until_shared(&stack, 3).await.unwrap();
    (stack, ann)
}

/// Waits until each of the workers owns some of the partitions.
async fn wait_until_shared(stack: &Stack, workers: usize) -> Result<()> {
    let mut database = stack.database().await?;
    eventually(SOON, "the workers share the partitions", async || {
        let owners: HashSet<String> = database.owners().await?.into_iter().map(|(owner, _)| owner).collect();
        if owners.len() == workers {
            Ok(())
        } else {
            Err(Failure::new(format!("{owners:?}")))
        }
    })
    .await?;
    database.close().await
}

#[tokio::test]
async fn workers_join_and_leave_without_loss() {
    let (mut stack, ann) = three_workers().await;
    under_posting(urls(&stack), &ann, async || {
        // One worker hands over, and comes back.
        assert_eq!(stack.standbys[0].process.stop(SOON).await?, 0);
        wait_for_workers(&stack, 2).await?;
        wait_for_progress(&ann).await?;
        stack.standbys[0].start()?;
        wait_for_workers(&stack, 3).await?;
        wait_for_progress(&ann).await?;
        // One worker is paused, and goes on when others own its share.
        stack.standbys[1].process.pause()?;
        wait_for_workers(&stack, 2).await?;
        wait_for_progress(&ann).await?;
        stack.standbys[1].process.resume()?;
        wait_for_workers(&stack, 3).await
    })
    .await;
}

#[tokio::test]
async fn killed_workers_partitions_are_claimed_in_promised_time() {
    let (mut stack, ann) = three_workers().await;
    let silence = under_posting(urls(&stack), &ann, async || {
        stack.worker.kill()?;
        wait_for_workers(&stack, 2).await
    })
    .await;
    assert!(silence <= TAKEN_OVER_WITHIN, "{silence:?}");
}
