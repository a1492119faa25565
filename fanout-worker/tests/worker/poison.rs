//! Entries that another party puts into the accept log harm nobody else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::AsyncCommands as _;
use rig::{Failure, eventually};
use shared::domain::Partition;
use shared::storage::Writers;

use crate::fixture::{Fixture, PARTITIONS, SOON};

/// No poison may stop a partition for longer.
const STOPPED_AT_MOST: Duration = Duration::from_secs(1);

async fn wait_for_dead_letters(fixture: &Fixture, count: i64) {
    let set_aside = eventually(SOON, "what is bad is set aside", async || {
        match fixture.number("SELECT count(*) FROM dead_letters").await {
            found if found == count => Ok(()),
            found => Err(Failure::new(format!("{found} dead letters"))),
        }
    });
    set_aside.await.unwrap();
}

#[tokio::test]
async fn only_invalid_entries_are_set_aside() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let worker = fixture.worker(Writers::One).await;
    fixture.append(&mut redis, room, "*", "0").await;
    fixture.texts(room, 1).await;

    let large = vec![b'x'; 1024 * 1024];
    let poison: [(&str, &[u8]); 6] = [
        ("text", b"a\0b"),
        ("text", b"\xed\xa0\x80 half of a pair"),
        ("text", &large),
        ("room", b"1\r\n2"),
        ("id", b""),
        ("at", b"99999999999999999999"),
    ];
    let stream = fixture.keys.accept_stream(Partition::of(room, PARTITIONS));
    for (number, (field, value)) in (1..).zip(&poison) {
        let message = fixture.message(room, "bad");
        let good = shared::bus::encode_message(&message, &fixture.keys);
        let mut command = redis::cmd("XADD");
        command.arg(stream).arg("*");
        for (name, content) in &good {
            let content = if name == field { *value } else { content.as_bytes() };
            command.arg(name).arg(content);
        }
        command.exec_async(&mut redis).await.unwrap();
        // What any client may send stays as it is, line breaks included.
        let began = Instant::now();
        fixture.append(&mut redis, room, "*", &format!("{number}\r\ndata: x")).await;
        fixture.texts(room, number + 1).await;
        assert!(began.elapsed() < STOPPED_AT_MOST, "stopped for {:?} by {field}", began.elapsed());
    }
    wait_for_dead_letters(&fixture, 6).await;
    worker.stop().await;
}

#[tokio::test]
async fn id_beyond_every_position_stops_nothing() {
    for far in [
        "18446744073709551615-1",
        "9223372036854775807-9223372036854775807",
        "100000000000000-0",
        // Positions could express these, until they are full.
        "99999999999999-999999999999999998",
        "4000000000000-0",
    ] {
        let fixture = Fixture::with_rooms(1).await;
        let room = fixture.rooms[0];
        let mut redis = fixture.redis.connect().await.unwrap();
        let partition = Partition::of(room, PARTITIONS);
        let stream = fixture.keys.accept_stream(partition);
        let worker = fixture.worker(Writers::One).await;
        fixture.append(&mut redis, room, "*", "before").await;
        fixture.texts(room, 1).await;

        let began = Instant::now();
        redis::cmd("XADD").arg(stream).arg(far).arg("x").arg("y").exec_async(&mut redis).await.unwrap();
        // Redis goes on from there until the ids are exchanged; what gateways append meanwhile is not to blame.
        for text in ["1", "2", "3"] {
            fixture.append(&mut redis, room, "*", text).await;
        }
        assert_eq!(fixture.texts(room, 4).await, ["before", "1", "2", "3"]);
        assert!(began.elapsed() < STOPPED_AT_MOST, "stopped for {:?} by {far}", began.elapsed());
        wait_for_dead_letters(&fixture, 1).await;
        let newest: String =
            redis::cmd("XADD").arg(stream).arg("*").arg("x").arg("y").query_async(&mut redis).await.unwrap();
        let newest_ms: u128 = newest.split_once('-').unwrap().0.parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(newest_ms <= (now + Duration::from_mins(1)).as_millis(), "{newest}");
        let left_over: bool = redis.exists(fixture.keys.exchanged_stream(partition)).await.unwrap();
        assert!(!left_over, "a copy of the stream was left behind");
        worker.stop().await;
    }
}

/// Genuine messages then get ids that lie as far ahead, and the position must not follow them.
#[tokio::test]
async fn id_set_far_ahead_moves_no_position() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let stream = fixture.keys.accept_stream(Partition::of(room, PARTITIONS));
    let worker = fixture.worker(Writers::One).await;
    fixture.append(&mut redis, room, "*", "before").await;
    fixture.texts(room, 1).await;
    redis::cmd("XSETID")
        .arg(stream)
        .arg("99999999999999-999999999999999000")
        .exec_async(&mut redis)
        .await
        .unwrap();
    for text in ["1", "2", "3"] {
        fixture.append(&mut redis, room, "*", text).await;
    }
    assert_eq!(fixture.texts(room, 4).await, ["before", "1", "2", "3"]);
    let position = fixture.number("SELECT max(stream_ms) FROM cursors").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(u128::try_from(position).unwrap() <= (now + Duration::from_mins(1)).as_millis(), "{position}");
    worker.stop().await;
}

#[tokio::test]
async fn last_id_with_too_many_fields_stops_nothing() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let stream = fixture.keys.accept_stream(Partition::of(room, PARTITIONS));
    fixture.append(&mut redis, room, "*", "before").await;
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("18446744073709551615-18446744073709551615");
    for number in 0..5_000 {
        command.arg(number).arg(number);
    }
    command.exec_async(&mut redis).await.unwrap();
    let worker = fixture.worker(Writers::One).await;
    wait_for_dead_letters(&fixture, 1).await;
    fixture.append(&mut redis, room, "*", "after").await;
    assert_eq!(fixture.texts(room, 2).await, ["before", "after"]);
    worker.stop().await;
}

#[tokio::test]
async fn starting_worker_empties_a_full_redis() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    for text in ["1", "2"] {
        fixture.append(&mut redis, room, "*", text).await;
    }
    fixture.redis.configure("maxmemory", "1").await.unwrap();
    let worker = fixture.worker(Writers::One).await;
    assert_eq!(fixture.texts(room, 2).await, ["1", "2"]);
    worker.stop().await;
}

#[tokio::test]
async fn entries_with_ids_below_the_position_are_read() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let worker = fixture.worker(Writers::One).await;
    fixture.append(&mut redis, room, "5000-0", "stored before").await;
    fixture.texts(room, 1).await;
    worker.stop().await;
    // A server takes over whose clock is behind. Until the worker is there its ids have passed the position.
    redis::cmd("DEL")
        .arg(fixture.keys.accept_stream(Partition::of(room, PARTITIONS)))
        .exec_async(&mut redis)
        .await
        .unwrap();
    for (id, text) in [("4000-0", "below"), ("6000-0", "above")] {
        fixture.append(&mut redis, room, id, text).await;
    }
    let worker = fixture.worker(Writers::One).await;
    assert_eq!(fixture.texts(room, 3).await, ["stored before", "below", "above"]);
    worker.stop().await;
}

#[tokio::test]
async fn entry_in_another_rooms_partition_is_set_aside() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let worker = fixture.worker(Writers::One).await;
    let Partition(home) = Partition::of(room, PARTITIONS);
    let elsewhere = fixture.keys.accept_stream(Partition((home + 1) % PARTITIONS));
    let message = fixture.message(room, "misplaced");
    let fields = shared::bus::encode_message(&message, &fixture.keys);
    let _id: String = redis::AsyncCommands::xadd(&mut redis, elsewhere, "*", &fields).await.unwrap();
    wait_for_dead_letters(&fixture, 1).await;
    fixture.append(&mut redis, room, "*", "at home").await;
    assert_eq!(fixture.texts(room, 1).await, ["at home"]);
    worker.stop().await;
}

#[tokio::test]
async fn forged_entry_is_stored_in_nobodys_name() {
    let fixture = Fixture::with_rooms(1).await;
    let room = fixture.rooms[0];
    let mut redis = fixture.redis.connect().await.unwrap();
    let worker = fixture.worker(Writers::One).await;
    let stream = fixture.keys.accept_stream(Partition::of(room, PARTITIONS));
    let message = fixture.message(room, "hello");
    let genuine = shared::bus::encode_message(&message, &fixture.keys);
    let (_, others) = genuine.split_last().unwrap();
    let mut changed = genuine.clone();
    changed.iter_mut().find(|(name, _)| *name == "text").unwrap().1 = "hellp".into();
    // The first is like those of a version that this installation does not come from.
    for forged in [others, &changed] {
        let _id: String = redis::AsyncCommands::xadd(&mut redis, stream, "*", forged).await.unwrap();
    }
    fixture.append(&mut redis, room, "*", "genuine").await;
    assert_eq!(fixture.texts(room, 1).await, ["genuine"]);
    wait_for_dead_letters(&fixture, 2).await;
    let reasons = "SELECT count(*) FROM dead_letters WHERE reason LIKE 'it was not written by a process %'";
    assert_eq!(fixture.number(reasons).await, 2);
    worker.stop().await;
}
