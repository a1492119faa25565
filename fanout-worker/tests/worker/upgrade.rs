//! An installation of a version whose names in Redis held no identity goes on with what it had accepted.

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use rig::{Failure, eventually};
use shared::domain::{Partition, RoomId};
use shared::storage::Writers;
use sqlx::AssertSqlSafe;

use crate::fixture::{Fixture, PARTITIONS, SOON};

/// Makes the schema what it was before.
const BEFORE: [&str; 7] = [
    "ALTER TABLE installation DROP COLUMN identity",
    "ALTER TABLE installation DROP COLUMN epoch_number",
    "ALTER TABLE installation DROP COLUMN carries_over",
    "ALTER TABLE installation DROP COLUMN mac_key",
    "ALTER TABLE installation DROP COLUMN unsigned_until",
    "ALTER TABLE installation DROP COLUMN ordered_ids_from",
    "DELETE FROM _sqlx_migrations WHERE version IN (6, 10, 11)",
];

/// Appends a message as earlier gateways did.
async fn append_as_before(redis: &mut MultiplexedConnection, fixture: &Fixture, room: RoomId, id: &str, text: &str) {
    let stream = format!("chat:{{{}}}:in", Partition::of(room, PARTITIONS));
    let message = fixture.message(room, text);
    let fields = [
        ("id", message.id.to_string()),
        ("room", message.room.0.to_string()),
        ("sender", message.sender.0.to_string()),
        ("username", "ann".to_owned()),
        ("at", message.created_on.0.to_string()),
        ("text", text.to_owned()),
    ];
    let _id: String = redis.xadd(stream, id, &fields).await.unwrap();
}

/// A log of which ids up to 5000-0 are stored and trimmed, and two entries wait.
async fn fill_old_log(redis: &mut MultiplexedConnection, fixture: &Fixture) {
    for (id, text) in [("4000-0", "stored"), ("6000-0", "first"), ("7000-0", "second")] {
        append_as_before(redis, fixture, fixture.rooms[0], id, text).await;
    }
    let stream = format!("chat:{{{}}}:in", Partition::of(fixture.rooms[0], PARTITIONS));
    let _removed: u64 = redis.xdel(stream, &["4000-0"]).await.unwrap();
}

async fn nothing_is_left(redis: &mut MultiplexedConnection) {
    let carried_over =
        eventually(SOON, "no old name is left", async || match redis.keys::<_, Vec<String>>("chat:*").await? {
            names if names.is_empty() => Ok(()),
            names => Err(Failure::new(format!("{names:?}"))),
        });
    carried_over.await.unwrap();
}

#[tokio::test]
async fn entries_under_old_names_are_stored_on_sqlite() {
    let fixture = Fixture::with_rooms(1).await;
    let mut redis = fixture.redis.connect().await.unwrap();
    fill_old_log(&mut redis, &fixture).await;
    fixture.run("UPDATE cursors SET stream_ms = 5000").await;
    for statement in BEFORE {
        fixture.run(statement).await;
    }
    let worker = fixture.worker(Writers::One).await;
    let room = fixture.rooms[0];
    assert_eq!(fixture.texts(room, 2).await, ["first", "second"]);
    // Keys keep the ids that earlier gateways give them for as long as those may be there.
    let keeps_ids = "SELECT ordered_ids_from > (unixepoch() + 6 * 86400) * 1000 FROM installation";
    assert_eq!(fixture.number(keeps_ids).await, 1);
    // A gateway of the earlier version is still there for a moment.
    append_as_before(&mut redis, &fixture, room, "*", "third").await;
    assert_eq!(fixture.texts(room, 3).await, ["first", "second", "third"]);
    nothing_is_left(&mut redis).await;
    assert_eq!(fixture.number("SELECT count(*) FROM dead_letters").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn entries_under_old_names_are_stored_on_postgres() {
    let (fixture, mut database, _server) = Fixture::with_rooms_on_postgres(1).await;
    let mut redis = fixture.redis.connect().await.unwrap();
    fill_old_log(&mut redis, &fixture).await;
    for statement in BEFORE.into_iter().chain(["UPDATE cursors SET stream_ms = 5000"]) {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut database).await.unwrap();
    }
    let worker = fixture.worker(Writers::Many).await;
    let keeps_ids = "SELECT ordered_ids_from > (extract(epoch FROM now()) + 6 * 86400) * 1000 FROM installation";
    assert!(sqlx::query_scalar::<_, bool>(keeps_ids).fetch_one(&mut database).await.unwrap());
    append_as_before(&mut redis, &fixture, fixture.rooms[0], "*", "third").await;
    let texts = eventually(SOON, "all three are stored", async || {
        let texts: Vec<String> =
            sqlx::query_scalar("SELECT text FROM messages ORDER BY seq").fetch_all(&mut database).await?;
        if texts.len() == 3 {
            Ok(texts)
        } else {
            Err(Failure::new(format!("{texts:?}")))
        }
    });
    assert_eq!(texts.await.unwrap(), ["first", "second", "third"]);
    nothing_is_left(&mut redis).await;
    worker.stop().await;
}

#[tokio::test]
async fn new_installation_leaves_old_names_alone() {
    let fixture = Fixture::with_rooms(1).await;
    let mut redis = fixture.redis.connect().await.unwrap();
    append_as_before(&mut redis, &fixture, fixture.rooms[0], "*", "of somebody else").await;
    let worker = fixture.worker(Writers::One).await;
    fixture.append(&mut redis, fixture.rooms[0], "*", "ours").await;
    assert_eq!(fixture.texts(fixture.rooms[0], 1).await, ["ours"]);
    worker.stop().await;
    assert_eq!(redis.keys::<_, Vec<String>>("chat:*").await.unwrap().len(), 1);
}
