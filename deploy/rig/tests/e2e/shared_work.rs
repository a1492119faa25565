//! On Postgres all workers are at work at the same time, each on its share, and take over from each other.

use std::collections::HashSet;

use rig::{App, Backend, Failure, Result, Stack, eventually};

use crate::ownership::{ROOMS, TAKEN_OVER_WITHIN, under_posting, urls, wait_for_progress, wait_for_workers};
use crate::scene::{SOON, furnish};

/// Three workers that start together and two gateways on Postgres, where each worker has its share.
async fn three_workers() -> (Stack, App) {
    let stack = Stack::builder().without_rates().backend(Backend::Postgres).gateways(2).workers(3);
    let (stack, ann) = furnish(stack.start().await.unwrap()).await;
    for room in &ROOMS[1..] {
        ann.create_room(room).await.unwrap();
    }
    wait_until_shared(&stack, 3).await.unwrap();
    (stack, ann)
}

/// Waits until each of the workers has some of the partitions.
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
async fn each_worker_has_a_share_and_whoever_goes_or_comes_changes_nothing_else() {
    let (mut stack, ann) = three_workers().await;
    under_posting(urls(&stack), &ann, async || {
        // One hands over, and comes back.
        assert_eq!(stack.standbys[0].service.stop(SOON).await?, 0);
        wait_for_workers(&stack, 2).await?;
        wait_for_progress(&ann).await?;
        stack.standbys[0].start()?;
        wait_for_workers(&stack, 3).await?;
        wait_for_progress(&ann).await?;
        // One sleeps, and wakes up to find its share in other hands.
        stack.standbys[1].service.pause()?;
        wait_for_workers(&stack, 2).await?;
        wait_for_progress(&ann).await?;
        stack.standbys[1].service.resume()?;
        wait_for_workers(&stack, 3).await
    })
    .await;
}

#[tokio::test]
async fn the_share_of_a_worker_that_is_killed_is_taken_over_within_the_promised_time() {
    let (mut stack, ann) = three_workers().await;
    let silence = under_posting(urls(&stack), &ann, async || {
        stack.worker.kill()?;
        wait_for_workers(&stack, 2).await
    })
    .await;
    assert!(silence <= TAKEN_OVER_WITHIN, "{silence:?}");
}
