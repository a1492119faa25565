//! Installations that share a Redis never see each other.

use redis::AsyncCommands as _;
use rig::{Failure, eventually};
use shared::bus::encode_message;
use shared::domain::Partition;
use shared::storage::Writers;

use crate::fixture::{Fixture, PARTITIONS, SOON};

#[tokio::test]
async fn installations_on_one_redis_store_only_their_own() {
    let (ours, theirs) = (Fixture::with_rooms(1).await, Fixture::with_rooms(1).await);
    let mut redis = ours.redis.connect().await.unwrap();
    let workers = (ours.worker(Writers::One).await, theirs.worker_on(&ours.redis.url(), Writers::One).await);
    // Rooms are numbered from 1 in both.
    assert_eq!(ours.rooms, theirs.rooms);
    for round in 0..3 {
        ours.append(&mut redis, ours.rooms[0], "*", &format!("ours {round}")).await;
        theirs.append(&mut redis, theirs.rooms[0], "*", &format!("theirs {round}")).await;
    }
    assert_eq!(ours.texts(ours.rooms[0], 3).await, ["ours 0", "ours 1", "ours 2"]);
    assert_eq!(theirs.texts(theirs.rooms[0], 3).await, ["theirs 0", "theirs 1", "theirs 2"]);
    let names: Vec<String> = redis.keys("*").await.unwrap();
    assert!(!names.is_empty());
    for name in names {
        assert!(ours.keys.owns(name.as_bytes()) ^ theirs.keys.owns(name.as_bytes()), "{name} is nobody's");
    }
    workers.0.stop().await;
    workers.1.stop().await;
}

#[tokio::test]
async fn entry_of_another_installation_is_set_aside() {
    let (ours, theirs) = (Fixture::with_rooms(1).await, Fixture::with_rooms(1).await);
    let room = ours.rooms[0];
    let mut redis = ours.redis.connect().await.unwrap();
    let worker = ours.worker(Writers::One).await;
    let message = theirs.message(room, "a secret of theirs");
    let stream = ours.keys.accept_stream(Partition::of(room, PARTITIONS));
    let _id: String = redis.xadd(stream, "*", &encode_message(&message, &theirs.keys)).await.unwrap();
    ours.append(&mut redis, room, "*", "ours").await;
    assert_eq!(ours.texts(room, 1).await, ["ours"]);
    let set_aside = eventually(SOON, "the foreign entry is set aside", async || {
        match ours
            .number("SELECT count(*) FROM dead_letters WHERE reason LIKE 'it belongs to installation %'")
            .await
        {
            1 => Ok(()),
            count => Err(Failure::new(format!("{count} dead letters"))),
        }
    });
    set_aside.await.unwrap();
    worker.stop().await;
}
