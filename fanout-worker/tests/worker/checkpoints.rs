//! The write-ahead log of SQLite stays small, also while nothing is posted.

use std::fs;
use std::time::Duration;

use fanout_worker::sqlite_checkpoints;
use shared::domain::{RoomName, Timestamp};
use shared::storage::{CreateRoom, NewUser, Role, Store};
use tokio_util::sync::CancellationToken;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Rooms that are made and deleted: without checkpoints their log has some 60 MB.
const ROOMS: usize = 1_500;

/// What the log is cut to, and as much again that is written until the next checkpoint.
const MOST: u64 = 32 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_made_and_deleted_do_not_grow_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("roomcast.db");
    let url = format!("sqlite://{}", file.display());
    let gateway = Store::open(&url, Role::Gateway).await.unwrap();
    gateway.migrate(4, 1).await.unwrap();
    let ann = NewUser::for_tests("ann");
    let ann = gateway.create_user(ann, NOW).await.unwrap().id;
    let log_bytes = || fs::metadata(file.with_file_name("roomcast.db-wal")).unwrap().len();

    let stop = CancellationToken::new();
    let worker = Store::open(&url, Role::Worker).await.unwrap();
    let keeping = tokio::spawn(sqlite_checkpoints::run(worker.clone(), stop.clone()));
    let mut most = 0;
    for number in 0..ROOMS {
        let name = RoomName::parse(&format!("room-{number}")).unwrap();
        let room = gateway.create_room(CreateRoom::public(name, ann), NOW).await;
        gateway.delete_room(room.unwrap().id, NOW).await.unwrap();
        most = most.max(log_bytes());
    }
    assert!(most < MOST, "the log grew to {most} bytes");

    // All of it is in the file soon after the last write, and the next one begins the log anew.
    rig::eventually(Duration::from_secs(15), "the log begins anew", async || {
        let (log, copied): (i64, i64) = checkpointed(&url).await;
        if log == copied {
            Ok(())
        } else {
            Err(rig::Failure::new(format!("{copied} of {log} pages")))
        }
    })
    .await
    .unwrap();
    stop.cancel();
    keeping.await.unwrap();
}

/// Pages of the log, and those of them that are in the file, by a checkpoint that writes nothing.
async fn checkpointed(url: &str) -> (i64, i64) {
    use sqlx::{Connection as _, SqliteConnection};
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    let (_, log, copied): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut connection).await.unwrap();
    (log, copied)
}
