//! Claims of several workers on one database: a claim succeeds, and the worker that it replaces cannot commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::domain::{Partition, Seq};
use shared::storage::{Claim, CommitError, PartitionBatch, Role, Store, Writers};
use tokio::sync::oneshot;

use crate::support::{BackEnd, Database, FIRST, NOW, entry, message, on_both_back_ends, within_ten_seconds};

on_both_back_ends![
    each_claim_gets_a_fence_of_its_own,
    fences_count_the_claims_of_each_partition,
    a_refused_commit_names_the_lost_partitions,
    a_claim_waits_for_or_ends_a_stuck_commit,
    workers_commit_concurrently_without_a_deadlock,
];

/// How long a claim may take after the owner crashed or was paused.
const CLAIM_WITHIN: Duration = Duration::from_secs(3);

const ALL: [Partition; 4] = [Partition(0), Partition(1), Partition(2), Partition(3)];

fn batch(claim: Claim, message: shared::domain::Accepted) -> PartitionBatch {
    PartitionBatch {
        claim,
        entries: vec![entry(claim.cursor.ms + 1, message)],
    }
}

async fn each_claim_gets_a_fence_of_its_own(db: Database) {
    let other = Store::open(&db.url, Role::Worker).await.unwrap();
    let claims = (0..20).map(|turn| {
        let store = if turn % 2 == 0 { db.store.clone() } else { other.clone() };
        tokio::spawn(async move { store.claim(&ALL, &format!("worker {turn}")).await })
    });
    let mut fences = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        let claimed = claim.await.unwrap().unwrap();
        assert_eq!(claimed.iter().map(|claim| claim.partition).collect::<Vec<_>>(), ALL);
        fences.push(claimed[0].fence.0);
    }
    fences.sort_unstable();
    assert_eq!(fences, (1..=20).collect::<Vec<i64>>());
    let expected = if db.back_end == BackEnd::Sqlite {
        Writers::One
    } else {
        Writers::Many
    };
    assert_eq!(db.store.writers(), expected);
}

async fn fences_count_the_claims_of_each_partition(db: Database) {
    let before = db.store.fences().await.unwrap();
    let claims = db.store.claim(&[Partition(2), Partition(0)], "worker").await.unwrap();
    let after = db.store.fences().await.unwrap();
    let moved: Vec<_> = after
        .iter()
        .zip(&before)
        .filter(|(after, before)| after != before)
        .map(|(after, _)| *after)
        .collect();
    assert_eq!(moved, claims.iter().map(|claim| (claim.partition, claim.fence)).collect::<Vec<_>>());
    assert!(after.is_sorted_by_key(|(partition, _)| partition.0) && after.len() >= ALL.len());
}

async fn a_refused_commit_names_the_lost_partitions(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let old = db.store.claim(&ALL, "old").await.unwrap();
    db.store.claim(&[Partition(1), Partition(3)], "new").await.unwrap();
    let batches = old.iter().map(|claim| batch(*claim, message(room, ann.id, "x"))).collect();
    let refused = db.store.commit(batches, NOW, async {}).await;
    assert!(matches!(refused, Err(CommitError::StaleClaims(lost)) if lost == [Partition(1), Partition(3)]));
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq::ZERO);
}

/// With Postgres, the server ends a transaction whose owner is silent. An SQLite file has one writer in one process, whose end
/// releases it, so there the test lets the owner continue.
async fn a_claim_waits_for_or_ends_a_stuck_commit(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let claim = db.claim().await;
    let (written, reached) = oneshot::channel();
    let (resume, paused) = oneshot::channel::<()>();
    let old = db.store.clone();
    let batches: Arc<[PartitionBatch]> = Arc::new([batch(claim, message(room, ann.id, "x"))]);
    let hanging = tokio::spawn(async move {
        let hang = async move {
            let _ = written.send(());
            let _ = paused.await;
        };
        old.commit(batches, NOW, hang).await
    });
    within_ten_seconds(reached).await.unwrap();
    if db.back_end == BackEnd::Sqlite {
        resume.send(()).unwrap();
        let committed = within_ten_seconds(hanging).await.unwrap().unwrap();
        assert_eq!(committed.rooms.len(), 1);
        assert!(db.claim().await.cursor > claim.cursor);
        return;
    }
    let began = Instant::now();
    let other = Store::open(&db.url, Role::Worker).await.unwrap();
    let claimed = other.claim(&[FIRST], "new").await.unwrap()[0];
    assert!(began.elapsed() < CLAIM_WITHIN, "{:?}", began.elapsed());
    assert_eq!((claimed.cursor, claimed.fence.0), (claim.cursor, claim.fence.0 + 1));
    resume.send(()).unwrap();
    let late = within_ten_seconds(hanging).await.unwrap();
    assert!(matches!(late, Err(CommitError::Store(error)) if !error.is_rejection()));
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq::ZERO, "nothing of the old owner is stored");
}

async fn workers_commit_concurrently_without_a_deadlock(db: Database) {
    const ROUNDS: usize = 20;
    let ann = db.user("ann").await;
    let mut workers = Vec::new();
    for (name, partitions) in [("a", [0, 2]), ("b", [3, 1])] {
        let room = db.room(name, &ann).await.id;
        let store = Store::open(&db.url, Role::Worker).await.unwrap();
        let sender = ann.id;
        workers.push(tokio::spawn(async move {
            let mut claims = store.claim(&partitions.map(Partition), name).await.unwrap();
            claims.reverse();
            for _ in 0..ROUNDS {
                let batches: Vec<_> = claims.iter().map(|claim| batch(*claim, message(room, sender, "x"))).collect();
                store.commit(batches.clone().into(), NOW, async {}).await.unwrap();
                for (claim, batch) in claims.iter_mut().zip(&batches) {
                    claim.cursor = batch.upto();
                }
            }
            store.head(room).await.unwrap().seq
        }));
    }
    for worker in workers {
        let head = worker.await.unwrap();
        assert_eq!(head, Seq(i64::try_from(ROUNDS * 2).unwrap()));
    }
}
