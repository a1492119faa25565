//! Postgres: taking over from an owner that holds its partitions locked and does not go on.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::domain::Seq;
use shared::storage::{CommitError, PartitionBatch, Role, Store};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{BackEnd, Database, FIRST, NOW, entry, message};

/// A takeover after a crash is promised within this time.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(3);

/// A way to the server on which the end of the first statement that inserts messages never arrives, nor anything after it.
async fn way_that_breaks(url: &str, broken: Arc<Notify>) -> String {
    let server = PgConnectOptions::from_str(url).unwrap();
    let server = (server.get_host().to_owned(), server.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
            let (from_client, mut to_client) = client.into_split();
            tokio::spawn(pass_on(from_client, to_server, broken.clone()));
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    format!("{url}?host=127.0.0.1&port={port}")
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, broken: Arc<Notify>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or_default();
        let read = &buffer[..length];
        if read.windows(20).any(|bytes| bytes == b"INSERT INTO messages") {
            // The message that makes the server answer is five bytes long and the last.
            to.write_all(&read[..length - 2]).await.unwrap();
            broken.notify_one();
            return std::future::pending().await;
        }
        if length == 0 || to.write_all(read).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_cut_off_within_a_statement_is_ended() {
    let db = Database::new(BackEnd::Postgres).await;
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let broken = Arc::new(Notify::new());
    let old = Store::open(&way_that_breaks(&db.url, broken.clone()).await, Role::Worker).await.unwrap();
    let claim = old.claim(&[FIRST], "old").await.unwrap()[0];
    let entries = vec![entry(1, message(room, ann.id, "x"))];
    let batch: Arc<[PartitionBatch]> = Arc::new([PartitionBatch { claim, entries }]);
    let hanging = tokio::spawn(async move { old.commit(batch, NOW, async {}).await });
    broken.notified().await;

    let began = Instant::now();
    let taken = db.store.claim(&[FIRST], "new").await.unwrap()[0];
    assert!(began.elapsed() < TAKEOVER_WITHIN, "{:?}", began.elapsed());
    assert_eq!((taken.cursor, taken.fence.0), (claim.cursor, claim.fence.0 + 1));
    let late = hanging.await.unwrap();
    assert!(matches!(late, Err(CommitError::Store(error)) if !error.is_rejection()));
    assert_eq!(db.store.head(room).await.unwrap(), Seq::ZERO, "nothing of the old owner came through");
}

/// Locks a partition as somebody of that name, and stays busy inside the transaction.
async fn hold(url: &str, name: &str) -> (i32, tokio::task::JoinHandle<Result<(), sqlx::Error>>) {
    let options = PgConnectOptions::from_str(url).unwrap().application_name(name);
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let held = "SELECT pg_backend_pid() FROM cursors WHERE partition = 0 FOR UPDATE";
    sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
    let pid = sqlx::query_scalar(held).fetch_one(&mut connection).await.unwrap();
    let busy = async move { sqlx::query("SELECT pg_sleep(60)").execute(&mut connection).await.map(drop) };
    (pid, tokio::spawn(busy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_stuck_in_a_statement_is_ended() {
    let db = Database::new(BackEnd::Postgres).await;
    let (_, held) = hold(&db.url, "roomcast-worker").await;
    let began = Instant::now();
    db.claim().await;
    assert!(began.elapsed() < TAKEOVER_WITHIN, "{:?}", began.elapsed());
    let ended = held.await.unwrap().unwrap_err();
    let code = ended.as_database_error().and_then(DatabaseError::code);
    assert_eq!(code.as_deref(), Some("57P01"), "ended by another: {ended}");
}

/// Somebody at a prompt: the claim fails and can be made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_a_worker_is_ended() {
    let db = Database::new(BackEnd::Postgres).await;
    let (pid, held) = hold(&db.url, "psql").await;
    let began = Instant::now();
    let refused = db.store.claim(&[FIRST], "new").await.unwrap_err();
    assert!(
        !refused.is_rejection() && began.elapsed() < TAKEOVER_WITHIN,
        "{refused} after {:?}",
        began.elapsed()
    );
    assert!(!held.is_finished());
    let mut operator = PgConnection::connect(&db.url).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend($1, 3000)").bind(pid).execute(&mut operator).await.unwrap();
    held.await.unwrap().unwrap_err();
    db.claim().await;
}
