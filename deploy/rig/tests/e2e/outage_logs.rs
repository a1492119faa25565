//! An outage stands in the log as a few lines, however many requests it meets.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rig::{Backend, Ends, Failure, Health, Stack, Weather, eventually};

use crate::scene::{SOON, furnish};

/// Counts are written every ten seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn posts_without_redis_are_written_once_and_counted() {
    let (mut stack, ann) = furnish(Stack::builder().without_rates().start().await.unwrap()).await;
    stack.redis.kill().unwrap();
    let posts = stream::iter(0..300).map(|number| {
        let ann = ann.clone();
        async move { ann.try_post("lobby", &format!("message {number}"), None).await.unwrap().status() }
    });
    let statuses: Vec<u16> = posts.buffer_unordered(50).collect().await;
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    let counted = eventually(COUNTED_WITHIN, "the count is written", async || {
        let log = stack.gateways[0].service.log();
        let is_counted = log.lines().any(|line| line.contains("more within 10 s"));
        if is_counted {
            Ok(log)
        } else {
            Err(Failure::new("not yet"))
        }
    });
    let log = counted.await.unwrap();
    let errors = log.lines().filter(|line| line.contains("ERROR")).count();
    assert!((1..=20).contains(&errors), "{errors} lines of errors:\n{log}");
}

/// Messages that are accepted before the database fails.
const ACCEPTED: usize = 3;

/// The worker tries for two seconds before it says so.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// Lets the database of the worker fail, or work again.
fn set_database(stack: &Stack, works: bool) {
    if let Some(disk) = &stack.worker_disk {
        let health = Health {
            is_full: !works,
            ..Health::default()
        };
        return disk.set(health).unwrap();
    }
    let link = stack.link(Ends::WorkerPostgres(0)).unwrap();
    if works {
        link.proxy.heal();
    } else {
        link.proxy.set(Weather::Refusing);
        link.proxy.cut();
    }
}

async fn an_outage_of_storage_is_told(stack: Stack) {
    let (stack, ann) = furnish(stack).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    // It finds what is accepted now when it can store nothing.
    stack.worker.service.pause().unwrap();
    for number in 0..ACCEPTED {
        ann.post("lobby", &format!("accepted {number}")).await.unwrap();
    }
    set_database(&stack, false);
    stack.worker.service.resume().unwrap();
    let told = eventually(TOLD_WITHIN, "the worker says that nothing is stored", async || {
        let log = stack.worker.service.log();
        let is_told = log.lines().any(|line| line.contains("ERROR") && line.contains("nothing is stored"));
        is_told.then_some(()).ok_or_else(|| Failure::new(log))
    });
    told.await.unwrap();
    set_database(&stack, true);
    stream.messages(ACCEPTED, SOON * 3).await.unwrap();
    let log = stack.worker.service.log();
    let lines = log.lines().filter(|line| line.contains("nothing_is_stored")).count();
    // Once, and a count every ten seconds.
    assert!((1..=4).contains(&lines), "{lines} lines:\n{log}");
}

#[tokio::test]
async fn a_worker_says_that_nothing_is_stored() {
    an_outage_of_storage_is_told(Stack::builder().disks().start().await.unwrap()).await;
}

#[tokio::test]
async fn a_worker_says_that_nothing_is_stored_in_postgres() {
    an_outage_of_storage_is_told(Stack::builder().backend(Backend::Postgres).links().start().await.unwrap()).await;
}
