//! A full disk, and one with room again: a limit on file sizes makes real writes of a child process fail.

use std::env;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shared::domain::{Partition, RoomName, Seq, SessionId};
use shared::storage::{CommitError, CreateRoom, NewUser};
use uuid::Uuid;

use crate::support::{BackEnd, Database, NOW, entry, message};

/// This variable is set in the child process.
const CHILD: &str = "ROOMCAST_TEST_HAS_NO_ROOM";

/// Limits files to `bytes`, or lifts the limit.
fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

#[test]
fn writes_succeed_again_after_a_full_disk() {
    if env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(run_out_of_room());
    }
    // A write beyond the limit raises a signal, which ends a process that does not ignore it. Only then it returns an error.
    let test = "full_disk::writes_succeed_again_after_a_full_disk";
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .args([env::current_exe().unwrap().to_str().unwrap(), test])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn run_out_of_room() {
    let db = Database::new(BackEnd::Sqlite).await;
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    // The second batch is larger than SQLite's cache, so it is written before the commit; the first one by the commit.
    let long = "x".repeat(4_000);
    for (turn, count) in [(1, 1), (2, 2_000)] {
        let entries: Vec<_> = (1..=count).map(|n| entry(claim.cursor.ms + n, message(room, ann.id, &long))).collect();
        limit_files(Some(0));
        for _ in 0..2 {
            match db.commit(&mut claim, entries.clone()).await {
                Err(CommitError::Store(error)) => assert!(!error.is_rejection(), "{error}"),
                other => panic!("there was room: {:?}", other.err()),
            }
        }
        db.store
            .create_room(CreateRoom::public(RoomName::parse("other").unwrap(), ann.id), NOW)
            .await
            .unwrap_err();
        let session = SessionId(Uuid::from_u128(turn));
        db.store.create_session(session, ann.id, NOW, NOW).await.unwrap_err();
        db.store.claim(&[Partition(1)], "worker").await.unwrap_err();
        // SQLite returns the row before the commit fails.
        let name = format!("bob-{turn}");
        db.store.create_user(NewUser::for_tests(&name), NOW).await.unwrap_err();
        limit_files(None);
        let before = db.store.head(room).await.unwrap().seq;
        db.commit(&mut claim, entries).await.unwrap();
        assert_eq!(db.store.head(room).await.unwrap().seq, Seq(before.0 + count));
        db.store.create_session(session, ann.id, NOW, NOW).await.unwrap();
        db.user(&name).await;
    }
    assert_eq!(db.store.list_users("", 10).await.unwrap().len(), 3);
    db.room("other", &ann).await;
    db.claim().await;
}
