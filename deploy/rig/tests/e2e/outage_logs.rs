//! An outage is a few lines in the log, however many requests it affects.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rig::{Backend, DiskCondition, Failure, LinkEnds, NetworkCondition, Stack, eventually};

use crate::fixture::{SOON, with_lobby};

/// Counts are written every ten seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn failed_posts_are_logged_once_and_counted() {
    let (mut stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    stack.redis.kill().unwrap();
    let posts = stream::iter(0..300).map(|number| {
        let ann = ann.clone();
        async move { ann.try_post("lobby", &format!("message {number}"), None).await.unwrap().status() }
    });
    let statuses: Vec<u16> = posts.buffer_unordered(50).collect().await;
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    let counted = eventually(COUNTED_WITHIN, "the count is written", async || {
        let log = stack.gateways[0].process.log();
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

/// The worker tries for two seconds before it logs the outage.
const LOGGED_WITHIN: Duration = Duration::from_secs(30);

/// Makes the database of the worker fail, or work again.
fn set_database(stack: &Stack, works: bool) {
    if let Some(disk) = &stack.worker_disk {
        let condition = DiskCondition {
            is_full: !works,
            ..DiskCondition::default()
        };
        return disk.set(condition).unwrap();
    }
    let link = stack.link(LinkEnds::WorkerPostgres(0)).unwrap();
    if works {
        link.proxy.clear_faults();
    } else {
        link.proxy.set(NetworkCondition::Refusing);
        link.proxy.cut();
    }
}

async fn check_storage_outage(stack: Stack) {
    let (stack, ann) = with_lobby(stack).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    // The worker reads these messages only when it can store nothing.
    stack.worker.process.pause().unwrap();
    for number in 0..ACCEPTED {
        ann.post("lobby", &format!("accepted {number}")).await.unwrap();
    }
    set_database(&stack, false);
    stack.worker.process.resume().unwrap();
    let logged = eventually(LOGGED_WITHIN, "the worker logs that nothing is stored", async || {
        let log = stack.worker.process.log();
        let is_logged = log.lines().any(|line| line.contains("ERROR") && line.contains("nothing is stored"));
        is_logged.then_some(()).ok_or_else(|| Failure::new(log))
    });
    logged.await.unwrap();
    set_database(&stack, true);
    stream.messages(ACCEPTED, SOON * 3).await.unwrap();
    let log = stack.worker.process.log();
    let lines = log.lines().filter(|line| line.contains("nothing_is_stored")).count();
    // It is logged once, with a count every ten seconds.
    assert!((1..=4).contains(&lines), "{lines} lines:\n{log}");
}

#[tokio::test]
async fn worker_logs_that_nothing_is_stored() {
    check_storage_outage(Stack::builder().disks().start().await.unwrap()).await;
}

#[tokio::test]
async fn worker_logs_that_nothing_is_stored_on_postgres() {
    check_storage_outage(Stack::builder().backend(Backend::Postgres).links().start().await.unwrap()).await;
}
