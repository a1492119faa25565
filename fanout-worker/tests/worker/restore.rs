//! The worker detects a database that was restored from a backup, and nothing else counts as one.

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use rig::{Failure, eventually};
use shared::domain::Partition;
use shared::storage::Writers;

use crate::fixture::{Fixture, PARTITIONS, SOON};

const EPOCH_NUMBER: &str = "SELECT epoch_number FROM installation";

/// Waits until Redis remembers that everything of the only room is stored.
async fn remembered(redis: &mut MultiplexedConnection, fixture: &Fixture) {
    let partition = Partition::of(fixture.rooms[0], PARTITIONS);
    let all = eventually(SOON, "the log is trimmed and Redis remembers it", async || {
        let waiting: u64 = redis.xlen(fixture.keys.accept_stream(partition)).await?;
        let stored: Option<String> = redis.get(fixture.keys.stored_watermark(partition)).await?;
        match (waiting, stored) {
            (0, Some(_)) => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    });
    all.await.unwrap();
}

/// A room of three messages, all of them trimmed. Further tables hold the database as it was after the first one.
async fn with_a_backup() -> (Fixture, MultiplexedConnection) {
    let fixture = Fixture::with_rooms(1).await;
    let mut redis = fixture.redis.connect().await.unwrap();
    let worker = fixture.worker(Writers::One).await;
    fixture.append(&mut redis, fixture.rooms[0], "*", "kept").await;
    fixture.texts(fixture.rooms[0], 1).await;
    for statement in [
        "CREATE TABLE old_messages AS SELECT * FROM messages",
        "CREATE TABLE old_heads AS SELECT * FROM room_heads",
        "CREATE TABLE old_cursors AS SELECT * FROM cursors",
        "CREATE TABLE old_installation AS SELECT * FROM installation",
    ] {
        fixture.run(statement).await;
    }
    for text in ["lost", "lost too"] {
        fixture.append(&mut redis, fixture.rooms[0], "*", text).await;
    }
    fixture.texts(fixture.rooms[0], 3).await;
    remembered(&mut redis, &fixture).await;
    worker.stop().await;
    (fixture, redis)
}

async fn restore(fixture: &Fixture) {
    for statement in [
        "DELETE FROM messages",
        "INSERT INTO messages SELECT * FROM old_messages",
        "REPLACE INTO room_heads SELECT * FROM old_heads",
        "REPLACE INTO cursors SELECT * FROM old_cursors",
        "REPLACE INTO installation SELECT * FROM old_installation",
    ] {
        fixture.run(statement).await;
    }
}

#[tokio::test]
async fn each_restore_begins_a_new_epoch() {
    let (fixture, mut redis) = with_a_backup().await;
    let first = fixture.number("SELECT epoch FROM installation").await;
    let mut epochs = vec![first];
    for round in 1..=2 {
        restore(&fixture).await;
        let worker = fixture.worker(Writers::One).await;
        fixture.append(&mut redis, fixture.rooms[0], "*", "after").await;
        assert_eq!(fixture.texts(fixture.rooms[0], 2).await, ["kept", "after"]);
        assert_eq!(fixture.number(EPOCH_NUMBER).await, 1 + round, "higher than any before");
        epochs.push(fixture.number("SELECT epoch FROM installation").await);
        remembered(&mut redis, &fixture).await;
        worker.stop().await;
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2], "{epochs:?}");
}

#[tokio::test]
async fn restart_and_empty_redis_begin_no_epoch() {
    let (fixture, mut redis) = with_a_backup().await;
    for is_emptied in [false, true, false] {
        if is_emptied {
            let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
        }
        let before = fixture.number("SELECT count(*) FROM messages").await;
        let worker = fixture.worker(Writers::One).await;
        fixture.append(&mut redis, fixture.rooms[0], "*", "on").await;
        fixture.texts(fixture.rooms[0], usize::try_from(before).unwrap() + 1).await;
        remembered(&mut redis, &fixture).await;
        worker.stop().await;
    }
    assert_eq!(fixture.number(EPOCH_NUMBER).await, 1);
}
