//! An installation without gateways: a test fills the accept log itself, and runs as many workers as it likes.

use std::time::Duration;

use fanout_worker::pipeline::Pipeline;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use rig::{Failure, PostgresServer, RedisServer, eventually};
use shared::bus::{KeySpace, RedisConnector, encode_message};
use shared::domain::{Accepted, LogEntryId, MessageId, MessageText, Partition, RoomId, RoomName, Timestamp, UserId};
use shared::settings::RedisArgs;
use shared::storage::{CreateRoom, Entry, EntryContent, Installation, NewUser, Role, Store, Writers};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PARTITIONS: u16 = 32;

/// Long enough for anything that happens by itself, also while other tests use the machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A Redis, a database, a user and some rooms.
pub(crate) struct Fixture {
    pub(crate) redis: RedisServer,
    pub(crate) store: Store,
    pub(crate) rooms: Vec<RoomId>,
    pub(crate) installation: Installation,
    /// Its names in Redis.
    pub(crate) keys: KeySpace,
    sender: UserId,
    url: String,
    _directory: TempDir,
}

/// A running worker. Dropping it has the effect of killing it.
pub(crate) struct Worker {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The Redis at `url`, ready for use until `stop`.
pub(crate) async fn open_redis(url: &str, installation: Installation, stop: &CancellationToken) -> RedisConnector {
    let redis = RedisConnector::open(&RedisArgs::at(url), installation.key_space(), stop.clone()).unwrap();
    redis.wait_until_safe(false, stop).await.unwrap();
    redis
}

/// Removes what waits in the outbox, so that the logs of the rooms hold what a test appends and nothing else.
async fn forget_outbox(url: &str) {
    let statement = "DELETE FROM outbox";
    if url.starts_with("sqlite:") {
        let mut database = SqliteConnection::connect(url).await.unwrap();
        sqlx::query(statement).execute(&mut database).await.unwrap();
    } else {
        let mut database = PgConnection::connect(url).await.unwrap();
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
}

impl Fixture {
    pub(crate) async fn with_rooms(count: usize) -> Self {
        let directory = TempDir::with_prefix("roomcast-worker-").unwrap();
        let url = format!("sqlite://{}", directory.path().join("roomcast.db").display());
        Self::set_up(directory, url, count).await
    }

    /// The same on a Postgres of its own. [`Fixture::texts`], [`Fixture::run`] and [`Fixture::number`] are for SQLite.
    pub(crate) async fn with_rooms_on_postgres(count: usize) -> (Self, PgConnection, PostgresServer) {
        let directory = TempDir::with_prefix("roomcast-worker-").unwrap();
        let server = PostgresServer::start(directory.path()).await.unwrap();
        let url = server.create_database("roomcast").await.unwrap();
        let connection = server.connect("roomcast").await.unwrap();
        (Self::set_up(directory, url, count).await, connection, server)
    }

    async fn set_up(directory: TempDir, url: String, count: usize) -> Self {
        let redis = RedisServer::start(directory.path()).await.unwrap();
        let store = Store::open(&url, Role::Worker).await.unwrap();
        let installation = store.migrate(PARTITIONS, 77).await.unwrap();
        let ann = NewUser::for_tests("ann");
        let sender = store.create_user(ann, NOW).await.unwrap().id;
        let mut rooms = Vec::new();
        for number in 0..count {
            let name = RoomName::parse(&format!("room-{number}")).unwrap();
            rooms.push(store.create_room(CreateRoom::public(name, sender), NOW).await.unwrap().id);
        }
        forget_outbox(&url).await;
        Self {
            redis,
            store,
            rooms,
            keys: installation.key_space(),
            installation,
            sender,
            url,
            _directory: directory,
        }
    }

    /// Starts one more worker, with connections of its own to everything.
    pub(crate) async fn worker(&self, writers: Writers) -> Worker {
        self.worker_on(&self.redis.url(), writers).await
    }

    /// The same on another Redis.
    pub(crate) async fn worker_on(&self, redis: &str, writers: Writers) -> Worker {
        let stop = CancellationToken::new();
        let store = Store::open(&self.url, Role::Worker).await.unwrap();
        // As a process that starts does: it may be another one than before.
        let installation = store.migrate(PARTITIONS, 77).await.unwrap();
        let redis = open_redis(redis, installation, &stop).await;
        let pipeline = Pipeline::new(redis, store, writers, installation);
        let stopped = stop.clone();
        let task = tokio::spawn(async move { pipeline.run(&stopped).await });
        Worker { stop, task }
    }

    pub(crate) fn message(&self, room: RoomId, text: &str) -> Accepted {
        Accepted {
            id: MessageId::fresh(),
            room,
            sender: self.sender,
            text: MessageText::parse(text).unwrap(),
            in_reply_to: None,
            mentions: Vec::new(),
            created_on: NOW,
            reply_to: None,
        }
    }

    pub(crate) fn entry(&self, ms: i64, room: RoomId, text: &str) -> Entry {
        Entry {
            log_entry_id: LogEntryId { ms, counter: 0 },
            content: EntryContent::Message(self.message(room, text)),
        }
    }

    /// Appends a message under `id`, `*` for one of Redis's choice.
    pub(crate) async fn append(&self, redis: &mut MultiplexedConnection, room: RoomId, id: &str, text: &str) {
        let stream = self.keys.accept_stream(Partition::of(room, PARTITIONS));
        let message = self.message(room, text);
        let fields = encode_message(&message, &self.keys);
        let _id: String = redis.xadd(stream, id, &fields).await.unwrap();
    }

    /// Waits until `room` holds `count` messages, then returns their texts in the order of their seqs.
    pub(crate) async fn texts(&self, room: RoomId, count: usize) -> Vec<String> {
        let all = eventually(SOON, "everything that was appended is stored", async || {
            let mut database = SqliteConnection::connect(&self.url).await?;
            let rows: Vec<(i64, String)> =
                sqlx::query_as("SELECT seq, text FROM messages WHERE room_id = ? ORDER BY seq")
                    .bind(room.0)
                    .fetch_all(&mut database)
                    .await?;
            if rows.len() < count {
                return Err(Failure::new(format!("{} of {count}", rows.len())));
            }
            Ok(rows)
        });
        let rows = all.await.unwrap();
        assert!(rows.iter().zip(1..).all(|((seq, _), expected)| *seq == expected), "seqs are dense");
        rows.into_iter().map(|(_, text)| text).collect()
    }

    /// Changes the database without the product.
    pub(crate) async fn run(&self, sql: &'static str) {
        let mut database = SqliteConnection::connect(&self.url).await.unwrap();
        sqlx::query(sql).execute(&mut database).await.unwrap();
    }

    /// A number that one row of SQL gives.
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        let mut database = SqliteConnection::connect(&self.url).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap()
    }
}
