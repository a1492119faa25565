//! Postgres: claims from an owner that keeps its partitions locked and does not continue.

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

use crate::support::{BackEnd, Database, FIRST, NOW, entry, message, within_ten_seconds};

/// How long a claim may take after the owner was cut off or got stuck.
const CLAIM_WITHIN: Duration = Duration::from_secs(3);

/// Starts a proxy to the server that forwards everything up to the middle of the first statement that inserts messages, and nothing
/// after it. Returns the URL of the database through the proxy.
async fn truncating_proxy(url: &str, truncated: Arc<Notify>) -> String {
    let server = PgConnectOptions::from_str(url).unwrap();
    let server = (server.get_host().to_owned(), server.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
            let (from_client, mut to_client) = client.into_split();
            tokio::spawn(forward(from_client, to_server, truncated.clone()));
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    format!("{url}?host=127.0.0.1&port={port}")
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, truncated: Arc<Notify>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or_default();
        let read = &buffer[..length];
        if read.windows(20).any(|bytes| bytes == b"INSERT INTO messages") {
            // The last message, which makes the server answer, is five bytes long.
            to.write_all(&read[..length - 2]).await.unwrap();
            truncated.notify_one();
            return std::future::pending().await;
        }
        if length == 0 || to.write_all(read).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_an_owner_cut_off_within_a_statement() {
    let db = Database::new(BackEnd::Postgres).await;
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let truncated = Arc::new(Notify::new());
    let old = Store::open(&truncating_proxy(&db.url, truncated.clone()).await, Role::Worker).await.unwrap();
    let claim = old.claim(&[FIRST], "old").await.unwrap()[0];
    let entries = vec![entry(1, message(room, ann.id, "x"))];
    let batch: Arc<[PartitionBatch]> = Arc::new([PartitionBatch { claim, entries }]);
    let hanging = tokio::spawn(async move { old.commit(batch, NOW, async {}).await });
    within_ten_seconds(truncated.notified()).await;

    let began = Instant::now();
    let claimed = db.store.claim(&[FIRST], "new").await.unwrap()[0];
    assert!(began.elapsed() < CLAIM_WITHIN, "{:?}", began.elapsed());
    assert_eq!((claimed.cursor, claimed.fence.0), (claim.cursor, claim.fence.0 + 1));
    let late = within_ten_seconds(hanging).await.unwrap();
    assert!(matches!(late, Err(CommitError::Store(error)) if !error.is_rejection()));
    assert_eq!(db.store.head(room).await.unwrap().seq, Seq::ZERO, "nothing of the old owner is stored");
}

/// Locks partition 0 on a connection with this application name, and runs a long statement inside the transaction.
async fn lock_partition(url: &str, name: &str) -> (i32, tokio::task::JoinHandle<Result<(), sqlx::Error>>) {
    let options = PgConnectOptions::from_str(url).unwrap().application_name(name);
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let held = "SELECT pg_backend_pid() FROM cursors WHERE partition = 0 FOR UPDATE";
    sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
    let pid = sqlx::query_scalar(held).fetch_one(&mut connection).await.unwrap();
    let busy = async move { sqlx::query("SELECT pg_sleep(60)").execute(&mut connection).await.map(drop) };
    (pid, tokio::spawn(busy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_an_owner_stuck_in_a_statement() {
    let db = Database::new(BackEnd::Postgres).await;
    let (_, held) = lock_partition(&db.url, "roomcast-worker").await;
    let began = Instant::now();
    db.claim().await;
    assert!(began.elapsed() < CLAIM_WITHIN, "{:?}", began.elapsed());
    let ended = within_ten_seconds(held).await.unwrap().unwrap_err();
    let code = ended.as_database_error().and_then(DatabaseError::code);
    assert_eq!(code.as_deref(), Some("57P01"), "ended by another connection: {ended}");
}

/// A person at a prompt holds the lock. The claim fails, and a later one succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_only_connections_of_workers() {
    let db = Database::new(BackEnd::Postgres).await;
    let (pid, held) = lock_partition(&db.url, "psql").await;
    let began = Instant::now();
    let refused = db.store.claim(&[FIRST], "new").await.unwrap_err();
    assert!(!refused.is_rejection() && began.elapsed() < CLAIM_WITHIN, "{refused} after {:?}", began.elapsed());
    assert!(!held.is_finished());
    let mut operator = PgConnection::connect(&db.url).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend($1, 3000)").bind(pid).execute(&mut operator).await.unwrap();
    within_ten_seconds(held).await.unwrap().unwrap_err();
    db.claim().await;
}
