//! Another Redis takes over while the former one still answers, so that it looks healthy although nothing new arrives there.

use fanout_worker::log_reader::{BatchServers, LogReader};
use fanout_worker::trimmer::Trimmer;
use redis::cmd;
use rig::{Failure, RedisNode, RedisSentinels, eventually};
use shared::bus::encode_message;
use shared::domain::{Fence, LogEntryId, Partition};
use shared::storage::{Claim, Writers};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, PARTITIONS, SOON, open_redis};

/// Appends a message to the only room at one server, as a gateway does that holds it for the master.
async fn append(fixture: &Fixture, server: &RedisNode, id: &str, text: &str) {
    let room = fixture.rooms[0];
    let mut command = cmd("XADD");
    command.arg(stream_of(fixture)).arg(id);
    for (name, value) in encode_message(&fixture.message(room, text), &fixture.keys) {
        command.arg(name).arg(value);
    }
    let _id: String = server.run(&command).await.unwrap();
}

fn stream_of(fixture: &Fixture) -> String {
    fixture.keys.accept_stream(Partition::of(fixture.rooms[0], PARTITIONS)).to_owned()
}

async fn length_at(server: &RedisNode, stream: &str) -> u64 {
    server.run(cmd("XLEN").arg(stream)).await.unwrap()
}

#[tokio::test]
async fn worker_leaves_a_replaced_master_that_still_answers() {
    let directory = TempDir::with_prefix("roomcast-worker-").unwrap();
    let redis = RedisSentinels::start(directory.path()).await.unwrap();
    let fixture = Fixture::with_rooms(1).await;
    let worker = fixture.worker_on(&redis.url(), Writers::One).await;
    append(&fixture, &redis.servers[0], "*", "before").await;
    fixture.texts(fixture.rooms[0], 1).await;
    redis.detach(1).await.unwrap();
    redis.name_master(1).await.unwrap();
    append(&fixture, &redis.servers[1], "*", "after").await;
    assert_eq!(fixture.texts(fixture.rooms[0], 2).await, ["before", "after"]);
    worker.stop().await;
}

#[tokio::test]
async fn stored_entries_are_removed_where_they_were_read() {
    let directory = TempDir::with_prefix("roomcast-worker-").unwrap();
    let redis = RedisSentinels::start(directory.path()).await.unwrap();
    let fixture = Fixture::with_rooms(1).await;
    let (stream, stop) = (stream_of(&fixture), CancellationToken::new());
    let claim = Claim {
        partition: Partition::of(fixture.rooms[0], PARTITIONS),
        fence: Fence(1),
        cursor: LogEntryId::ZERO,
    };
    let client = open_redis(&redis.url(), fixture.installation, &stop).await;
    let mut log_reader = LogReader::new(client.clone(), fixture.store.clone(), fixture.installation);
    log_reader.assign(&[claim]);
    append(&fixture, &redis.servers[0], "9000-0", "read and stored").await;
    let (servers, batches) = BatchServers::of(timeout(SOON, log_reader.next()).await.unwrap().unwrap());

    // Before it is removed another server takes over whose clock is behind.
    redis.detach(1).await.unwrap();
    let _existed: u64 = redis.servers[1].run(cmd("DEL").arg(&stream)).await.unwrap();
    append(&fixture, &redis.servers[1], "5000-0", "not read yet").await;
    redis.name_master(1).await.unwrap();
    let taken_over = eventually(SOON, "the new master is known", async || match client.nodes().as_slice() {
        [node] if node.port == redis.servers[1].port() => Ok(()),
        others => Err(Failure::new(format!("{others:?}"))),
    });
    taken_over.await.unwrap();
    let trimmer = Trimmer::default();
    trimmer.schedule(&servers, vec![(claim.partition, batches[0].upto())]);
    trimmer.trim().await;
    assert_eq!(length_at(&redis.servers[0], &stream).await, 0);
    assert_eq!(length_at(&redis.servers[1], &stream).await, 1);
    stop.cancel();
}

#[tokio::test]
async fn worker_reopens_a_closed_trim_connection() {
    let fixture = Fixture::with_rooms(1).await;
    let worker = fixture.worker(Writers::One).await;
    let mut redis = fixture.redis.connect().await.unwrap();
    fixture.append(&mut redis, fixture.rooms[0], "*", "first").await;
    let nothing_waits = async || match fixture.redis.waiting_entries().await? {
        0 => Ok(()),
        left => Err(Failure::new(format!("{left} entries are left"))),
    };
    eventually(SOON, "what is stored is removed", nothing_waits).await.unwrap();

    // As a server does with a connection that was silent for too long.
    let clients: String = cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    // The other one that runs scripts is subscribed to the worker's presence.
    let is_removing = |client: &&str| client.contains(" cmd=evalsha ") && client.contains(" ssub=0 ");
    let removing = clients.lines().find(is_removing).unwrap();
    let id = removing.split([' ', '=']).nth(1).unwrap();
    let _killed: u64 = cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut redis).await.unwrap();

    fixture.append(&mut redis, fixture.rooms[0], "*", "second").await;
    assert_eq!(fixture.texts(fixture.rooms[0], 2).await, ["first", "second"]);
    eventually(SOON, "what is stored is removed again", nothing_waits).await.unwrap();
    worker.stop().await;
}
