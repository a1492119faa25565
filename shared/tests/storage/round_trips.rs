//! Postgres: what a statement costs on a connection that is in order, and what becomes of one that is not.

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

use crate::support::{BackEnd, Database, NOW, page};

/// A way to the server on which is counted how often it is spoken to.
#[derive(Clone, Default)]
struct Way {
    /// Times that something was sent: the driver sends all of a statement at once.
    sent: Arc<AtomicUsize>,
    /// The next statement is swallowed, and told of here.
    swallows: Arc<AtomicBool>,
    swallowed: Arc<Notify>,
}

impl Way {
    /// The URL of the database at `url` by this way.
    async fn to(&self, url: &str) -> String {
        let server = PgConnectOptions::from_str(url).unwrap();
        let server = (server.get_host().to_owned(), server.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
                let (from_client, mut to_client) = client.into_split();
                tokio::spawn(this.clone().pass_on(from_client, to_server));
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        });
        format!("{url}?host=127.0.0.1&port={port}")
    }

    async fn pass_on(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer).await.unwrap_or_default();
            self.sent.fetch_add(1, Ordering::SeqCst);
            if self.swallows.swap(false, Ordering::SeqCst) {
                self.swallowed.notify_one();
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

/// A room with three messages, and a gateway's store that goes there by a way of its own.
async fn room_by_a_way() -> (Database, Way, Store, (RoomId, UserId)) {
    let db = Database::new(BackEnd::Postgres).await;
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    db.post(&mut claim, room, ann.id, &["1", "2", "3"]).await;
    let way = Way::default();
    let store = Store::open(&way.to(&db.url).await, Role::Gateway).await.unwrap();
    (db, way, store, (room, ann.id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_one_round_trip() {
    let (_db, way, store, (room, ann)) = room_by_a_way().await;
    let newest = Window::Before(Seq(i64::MAX));
    let lobby = RoomName::parse("lobby").unwrap();
    // The connection is opened, and the statements are prepared.
    page(&store, room, ann, newest, 100).await.unwrap();
    store.room_by_name(&lobby).await.unwrap().unwrap();
    let before = way.sent();
    for _ in 0..10 {
        page(&store, room, ann, newest, 100).await.unwrap();
        store.room_by_name(&lobby).await.unwrap().unwrap();
    }
    assert_eq!(way.sent() - before, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_caller_left_is_asked_before_it_is_used() {
    let (db, way, store, (room, ann)) = room_by_a_way().await;
    let newest = Window::Before(Seq(i64::MAX));
    page(&store, room, ann, newest, 100).await.unwrap();
    way.swallows.store(true, Ordering::SeqCst);
    let left = tokio::spawn({
        let store = store.clone();
        async move { page(&store, room, ann, newest, 100).await.map(|page| page.head) }
    });
    way.swallowed.notified().await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    // It does not answer, and another one is opened.
    assert_eq!(page(&store, room, ann, newest, 100).await.unwrap().head, Seq(3));

    // A transaction whose caller was cut off is rolled back, and holds up nobody.
    way.swallows.store(true, Ordering::SeqCst);
    let created = tokio::spawn({
        let store = store.clone();
        async move { store.create_room(CreateRoom::public(RoomName::parse("other").unwrap(), ann), NOW).await.map(drop) }
    });
    way.swallowed.notified().await;
    created.await.unwrap().unwrap_err();
    store.create_room(CreateRoom::public(RoomName::parse("other").unwrap(), ann), NOW).await.unwrap();
    assert_eq!(db.store.list_rooms(ann, "", 10).await.unwrap(), ["lobby", "other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lost_connection_has_the_others_asked() {
    let (db, _way, store, (room, ann)) = room_by_a_way().await;
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
    assert!(read().await.is_err(), "nobody had told that the connection is gone");
    join_all((0..20).map(|_| read())).await.into_iter().for_each(|read| assert!(read.is_ok()));
}
