//! On Postgres all workers are at work at the same time, each on its share, and take over from each other.

use std::collections::HashMap;
use std::time::Instant;

use rig::{App, Backend, Failure, Result, Stack, eventually};

use crate::ownership::{ROOMS, TAKEN_OVER_WITHIN, under_posting, urls, wait_for_progress, wait_for_workers};
use crate::scene::{SOON, furnish};

/// Shares of the accept log.
const PARTITIONS: usize = 16;

/// Three workers and two gateways on Postgres.
async fn three_workers() -> (Stack, App) {
    let stack = Stack::builder().backend(Backend::Postgres).gateways(2).workers(3);
    let (stack, ann) = furnish(stack.start().await.unwrap()).await;
    for room in &ROOMS[1..] {
        ann.create_room(room).await.unwrap();
    }
    wait_for_workers(&stack, 3).await.unwrap();
    (stack, ann)
}

/// Waits until so many workers share all partitions between them, nobody without one.
async fn wait_until_shared(stack: &Stack, workers: usize) -> Result<()> {
    let mut database = stack.database().await?;
    eventually(SOON, "the workers share the partitions", async || {
        let mut shares: HashMap<String, usize> = HashMap::new();
        for (owner, _) in database.owners().await? {
            *shares.entry(owner).or_default() += 1;
        }
        if shares.len() == workers && shares.values().sum::<usize>() == PARTITIONS {
            Ok(())
        } else {
            Err(Failure::new(format!("{shares:?}")))
        }
    })
    .await?;
    database.close().await
}

#[tokio::test]
async fn each_worker_has_a_share_and_whoever_goes_or_comes_changes_nothing_else() {
    let (mut stack, ann) = three_workers().await;
    wait_until_shared(&stack, 3).await.unwrap();
    under_posting(urls(&stack), &ann, async || {
        // One hands over, and comes back.
        assert_eq!(stack.standbys[0].service.stop(SOON).await?, 0);
        wait_until_shared(&stack, 2).await?;
        wait_for_progress(&ann).await?;
        stack.standbys[0].start()?;
        wait_until_shared(&stack, 3).await?;
        wait_for_progress(&ann).await?;
        // One sleeps, and wakes up to find its share in other hands.
        stack.standbys[1].service.pause()?;
        wait_for_workers(&stack, 2).await?;
        wait_until_shared(&stack, 2).await?;
        wait_for_progress(&ann).await?;
        stack.standbys[1].service.resume()?;
        wait_until_shared(&stack, 3).await
    })
    .await;
}

#[tokio::test]
async fn the_share_of_a_worker_that_is_killed_is_taken_over_within_the_promised_time() {
    let (mut stack, ann) = three_workers().await;
    wait_until_shared(&stack, 3).await.unwrap();
    let urls = urls(&stack);
    under_posting(urls, &ann, async || {
        stack.worker.kill()?;
        let killed = Instant::now();
        wait_until_shared(&stack, 2).await?;
        assert!(killed.elapsed() <= TAKEN_OVER_WITHIN, "{:?}", killed.elapsed());
        Ok(())
    })
    .await;
}
