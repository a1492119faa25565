use std::time::Duration;

use rig::{Failure, eventually};
use shared::domain::{Partition, RoomId, Seq};
use shared::storage::Writers;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, interval};

use crate::fixture::{Fixture, PARTITIONS, SOON};

const ROOMS: usize = 12;
const ROUNDS: usize = 700;

/// Well below what a claim waits for a lock that is not released.
const CLAIM_WAIT: Duration = Duration::from_secs(1);

/// Appends a message to every room, round after round.
async fn post(fixture: &Fixture) {
    let mut redis = fixture.redis.connect().await.unwrap();
    let mut pace = interval(Duration::from_millis(8));
    for round in 0..ROUNDS {
        pace.tick().await;
        for room in &fixture.rooms {
            fixture.append(&mut redis, *room, "*", &round.to_string()).await;
        }
    }
}

/// Waits until `count` workers are owners of something.
async fn wait_for_owners(fixture: &Fixture, count: i64) {
    let shared = eventually(SOON, "the workers share the partitions", async || {
        match fixture.number("SELECT count(DISTINCT owner) FROM cursors WHERE owner <> ''").await {
            owners if owners == count => Ok(()),
            owners => Err(Failure::new(format!("{owners} owners"))),
        }
    });
    shared.await.unwrap();
}

/// One worker, then four; one stops, one dies, and two new ones come, all under posting.
#[tokio::test]
async fn changing_workers_lose_double_and_reorder_nothing() {
    let fixture = Fixture::with_rooms(ROOMS).await;
    let changing = async {
        let worker = || fixture.worker(Writers::Many);
        let first = worker().await;
        wait_for_owners(&fixture, 1).await;
        let (second, third, fourth) = tokio::join!(worker(), worker(), worker());
        first.stop().await;
        drop(second);
        let others = tokio::join!(worker(), worker());
        third.stop().await;
        (fourth, others)
    };
    let (workers, ()) = tokio::join!(changing, post(&fixture));
    let expected: Vec<String> = (0..ROUNDS).map(|round| round.to_string()).collect();
    for room in &fixture.rooms {
        assert_eq!(fixture.texts(*room, ROUNDS).await, expected);
    }
    // No worker claims back and forth: six joined and three left, and each moved a part of the partitions once or twice.
    let claims = fixture.number("SELECT sum(fence) FROM cursors").await;
    assert!(claims < i64::from(PARTITIONS) * 9 * 2, "{claims} claims");
    drop(workers);
}

#[tokio::test]
async fn simultaneous_workers_share_and_the_last_one_owns_all() {
    let fixture = Fixture::with_rooms(1).await;
    let worker = || fixture.worker(Writers::Many);
    let (first, second, third) = tokio::join!(worker(), worker(), worker());
    wait_for_owners(&fixture, 3).await;
    tokio::join!(first.stop(), second.stop());
    wait_for_owners(&fixture, 1).await;
    drop(third);
}

#[tokio::test]
async fn silent_owner_reclaims_after_theft() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let worker = fixture.worker(Writers::Many).await;
    fixture.append(&mut redis, room, "*", "before").await;
    fixture.texts(room, 1).await;
    // A worker that knows no other one for a moment claims everything, and gives it up when it knows more.
    let all: Vec<Partition> = (0..PARTITIONS).map(Partition).collect();
    fixture.store.claim(&all, "mistaken").await.unwrap();
    let regained = eventually(SOON, "the owner notices", async || {
        match fixture.number("SELECT count(*) FROM cursors WHERE owner = 'mistaken'").await {
            0 => Ok(()),
            count => Err(Failure::new(format!("{count} partitions"))),
        }
    });
    regained.await.unwrap();
    fixture.append(&mut redis, room, "*", "after").await;
    assert_eq!(fixture.texts(room, 2).await, ["before", "after"]);
    worker.stop().await;
}

/// Waits until the only number that `sql` asks for is `expected`.
async fn wait_for_number(postgres: &mut PgConnection, sql: &'static str, expected: i64) {
    let became =
        eventually(SOON, sql, async || match sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *postgres).await? {
            number if number == expected => Ok(()),
            number => Err(Failure::new(format!("{number} of {expected}"))),
        });
    became.await.unwrap();
}

#[tokio::test]
async fn waiting_claim_does_not_delay_owned_partitions() {
    // Some of the rooms are in partitions of each worker: one run in a million fails.
    let (fixture, mut postgres, server) = Fixture::with_rooms_on_postgres(40).await;
    let mut redis = fixture.redis.connect().await.unwrap();
    let _first = fixture.worker(Writers::Many).await;
    wait_for_number(&mut postgres, "SELECT count(DISTINCT owner) FROM cursors WHERE owner <> ''", 1).await;
    let me: String = sqlx::query_scalar("SELECT max(owner) FROM cursors").fetch_one(&mut postgres).await.unwrap();
    let second = fixture.worker(Writers::Many).await;
    wait_for_number(&mut postgres, "SELECT count(DISTINCT owner) FROM cursors", 2).await;
    drop(second);

    // In the middle of a commit: the rows of its partitions are locked until the server, or here the test, ends that.
    let mut paused = postgres.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM cursors WHERE owner <> $1 FOR UPDATE")
        .bind(&me)
        .execute(&mut *paused)
        .await
        .unwrap();
    let ours: Vec<i64> = sqlx::query_scalar("SELECT partition FROM cursors WHERE owner = $1")
        .bind(&me)
        .fetch_all(&mut *paused)
        .await
        .unwrap();
    let is_ours = |room: &&RoomId| ours.contains(&i64::from(Partition::of(**room, PARTITIONS).0));
    let held = *fixture.rooms.iter().find(is_ours).unwrap();
    let mut looking = server.connect("roomcast").await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'roomcast'";
    wait_for_number(&mut looking, waits, 1).await;

    let began = Instant::now();
    fixture.append(&mut redis, held, "*", "stored meanwhile").await;
    let stored = eventually(SOON, "what is held is stored", async || match fixture.store.head(held).await?.seq {
        Seq::ZERO => Err(Failure::new("not yet")),
        _ => Ok(()),
    });
    stored.await.unwrap();
    assert!(began.elapsed() < CLAIM_WAIT, "stored after {:?}", began.elapsed());
}

#[tokio::test]
async fn other_workers_stand_by_with_one_writer() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let first = fixture.worker(Writers::One).await;
    fixture.append(&mut redis, room, "*", "of the first").await;
    fixture.texts(room, 1).await;
    let second = fixture.worker(Writers::One).await;
    fixture.append(&mut redis, room, "*", "of the first again").await;
    fixture.texts(room, 2).await;
    let claims = fixture.number("SELECT sum(fence) FROM cursors").await;
    assert_eq!(claims, i64::from(PARTITIONS), "the second has taken nothing");
    first.stop().await;
    fixture.append(&mut redis, room, "*", "of the second").await;
    assert_eq!(fixture.texts(room, 3).await, ["of the first", "of the first again", "of the second"]);
    second.stop().await;
}
