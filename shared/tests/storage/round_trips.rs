//! Postgres: the round trips of a statement on a healthy connection, and what happens to one that is not.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use shared::domain::{RoomId, RoomName, Seq, UserId};
use shared::storage::{CreateRoom, Role, Store, Window};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{BackEnd, Database, NOW, page, within_ten_seconds};

/// A proxy to the server that counts what is sent to it.
#[derive(Clone, Default)]
struct CountingProxy {
    /// How many times data was sent. The driver sends a whole statement at once.
    sent: Arc<AtomicUsize>,
    /// Whether the next statement is dropped, along with everything after it on its connection.
    drops_next: Arc<AtomicBool>,
    dropped: Arc<Notify>,
}

impl CountingProxy {
    /// Starts the proxy, and returns the URL of the database at `url` through it.
    async fn start(&self, url: &str) -> String {
        let server = PgConnectOptions::from_str(url).unwrap();
        let server = (server.get_host().to_owned(), server.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
                let (from_client, mut to_client) = client.into_split();
                tokio::spawn(this.clone().forward(from_client, to_server));
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        });
        format!("{url}?host=127.0.0.1&port={port}")
    }

    async fn forward(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer).await.unwrap_or_default();
            self.sent.fetch_add(1, Ordering::SeqCst);
            if self.drops_next.swap(false, Ordering::SeqCst) {
                self.dropped.notify_one();
                return std::future::pending().await;
            }
            if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

/// A room with three messages, and the store of a gateway that is connected through a proxy.
async fn room_behind_a_proxy() -> (Database, CountingProxy, Store, (RoomId, UserId)) {
    let db = Database::new(BackEnd::Postgres).await;
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann.id, &["1", "2", "3"]).await;
    let proxy = CountingProxy::default();
    let store = Store::open(&proxy.start(&db.url).await, Role::Gateway).await.unwrap();
    (db, proxy, store, (room, ann.id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_one_round_trip() {
    let (_db, proxy, store, (room, ann)) = room_behind_a_proxy().await;
    let newest = Window::Before(Seq(i64::MAX));
    let lobby = RoomName::parse("lobby").unwrap();
    // This opens the connection and prepares the statements.
    page(&store, room, ann, newest, 100).await.unwrap();
    store.room_by_name(&lobby).await.unwrap().unwrap();
    let before = proxy.sent();
    for _ in 0..10 {
        page(&store, room, ann, newest, 100).await.unwrap();
        store.room_by_name(&lobby).await.unwrap().unwrap();
    }
    assert_eq!(proxy.sent() - before, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_a_dropped_caller_is_probed() {
    let (db, proxy, store, (room, ann)) = room_behind_a_proxy().await;
    let newest = Window::Before(Seq(i64::MAX));
    page(&store, room, ann, newest, 100).await.unwrap();
    proxy.drops_next.store(true, Ordering::SeqCst);
    let left = tokio::spawn({
        let store = store.clone();
        async move { page(&store, room, ann, newest, 100).await.map(|page| page.head) }
    });
    within_ten_seconds(proxy.dropped.notified()).await;
    left.abort();
    assert!(within_ten_seconds(left).await.unwrap_err().is_cancelled());
    // The connection does not answer the probe, so another one is opened.
    assert_eq!(page(&store, room, ann, newest, 100).await.unwrap().head, Seq(3));

    // A transaction whose caller was dropped is rolled back and blocks nobody.
    proxy.drops_next.store(true, Ordering::SeqCst);
    let created = tokio::spawn({
        let store = store.clone();
        async move { store.create_room(CreateRoom::public(RoomName::parse("other").unwrap(), ann), NOW).await.map(drop) }
    });
    within_ten_seconds(proxy.dropped.notified()).await;
    within_ten_seconds(created).await.unwrap().unwrap_err();
    store.create_room(CreateRoom::public(RoomName::parse("other").unwrap(), ann), NOW).await.unwrap();
    assert_eq!(db.store.list_rooms(ann, "", 10).await.unwrap(), ["lobby", "other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_makes_the_others_probed() {
    let (db, _proxy, store, (room, ann)) = room_behind_a_proxy().await;
    let newest = Window::Before(Seq(i64::MAX));
    let read = async || store.history_page(room, Some(ann), newest, 100, None).await;
    join_all((0..20).map(|_| read())).await.into_iter().for_each(|read| assert!(read.is_ok()));
    let mut operator = PgConnection::connect(&db.url).await.unwrap();
    let ended: i64 = sqlx::query_scalar(
        "SELECT COUNT(pg_terminate_backend(pid, 3000)) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'roomcast-gateway'",
    )
    .fetch_one(&mut operator)
    .await
    .unwrap();
    assert!(ended > 1, "{ended}");
    assert!(read().await.is_err(), "nothing has shown yet that the connection is lost");
    join_all((0..20).map(|_| read())).await.into_iter().for_each(|read| assert!(read.is_ok()));
}
