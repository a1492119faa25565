//! A new database for each test, and short ways to fill it.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::{
    Accepted, Command, LogEntryId, MembershipId, MessageId, MessageText, OutboxHint, Partition, RoomEntry, RoomId,
    RoomName, Seq, StoredMessage, Timestamp, UserId,
};
use shared::storage::{
    Claim, CommitError, Committed, CreateRoom, Entry, JoinMode, JoinOutcome, NewUser, PartitionBatch, Role, Room,
    Store, StoreError, User, Window,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// The current time in all tests.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The variable that names the Postgres server, with a superuser.
const SERVER_VARIABLE: &str = "TEST_POSTGRES_URL";

/// Runs each of the named cases on both back ends, each with an empty database of its own.
macro_rules! on_both_back_ends {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::support::Database::new(crate::support::BackEnd::Sqlite).await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::support::Database::new(crate::support::BackEnd::Postgres).await).await;
            })+
        }
    };
}
pub(crate) use on_both_back_ends;

/// The back end that a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackEnd {
    Sqlite,
    Postgres,
}

/// A database of one test.
pub(crate) struct Database {
    pub(crate) store: Store,
    pub(crate) url: String,
    pub(crate) back_end: BackEnd,
    directory: TempDir,
}

impl Database {
    /// An empty installation of 4 partitions.
    pub(crate) async fn new(back_end: BackEnd) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = fresh(back_end, &directory).await;
        let store = Store::open(&url, Role::Worker).await.unwrap();
        store.migrate(4, 77).await.unwrap();
        Self {
            store,
            url,
            back_end,
            directory,
        }
    }

    /// The URL of another, empty database of the same kind.
    pub(crate) async fn another(&self) -> String {
        fresh(self.back_end, &self.directory).await
    }

    /// Returns the number of messages. Fails unless an entry with a higher seq in its room has a higher position, no two entries
    /// have the same one, and each head has that of its last entry.
    pub(crate) async fn positions_grow_with_seqs(&self) -> i64 {
        let query = "WITH entries AS (SELECT room_id, seq, position FROM messages
                                      UNION ALL SELECT room_id, seq, position FROM changes)
                     SELECT (SELECT COUNT(*) FROM entries a JOIN entries b ON b.room_id = a.room_id AND b.seq = a.seq + 1
                             WHERE b.position <= a.position)
                          + (SELECT COUNT(*) - COUNT(DISTINCT position) FROM entries)
                          + (SELECT COUNT(*) FROM room_heads h LEFT JOIN entries e USING (room_id, seq, position)
                             WHERE e.position IS NULL OR h.partition IS NULL)";
        let count = "SELECT COUNT(*) FROM messages";
        let (disorder, count): (i64, i64) = match self.back_end {
            BackEnd::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                let disorder = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
                (disorder, sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap())
            }
            BackEnd::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                let disorder = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
                (disorder, sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap())
            }
        };
        assert_eq!(disorder, 0);
        count
    }

    /// How many rows of all tables hold `text` in some column.
    pub(crate) async fn rows_with(&self, text: &str) -> i64 {
        let mut found = 0;
        for table in [
            "messages",
            "changes",
            "reactions",
            "replies",
            "mentions",
            "dead_letters",
        ] {
            found += match self.back_end {
                BackEnd::Sqlite => {
                    let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                    let columns: String = sqlx::query_scalar(
                        "SELECT group_concat('CAST(' || name || ' AS TEXT)', ', ') FROM pragma_table_info($1)",
                    )
                    .bind(table)
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                    let count = format!("SELECT COUNT(*) FROM {table} WHERE instr(concat({columns}), $1) > 0");
                    sqlx::query_scalar(AssertSqlSafe(count)).bind(text).fetch_one(&mut connection).await.unwrap()
                }
                BackEnd::Postgres => {
                    let mut connection = PgConnection::connect(&self.url).await.unwrap();
                    let count = format!("SELECT COUNT(*) FROM {table} t WHERE strpos(t::text, $1) > 0");
                    sqlx::query_scalar::<_, i64>(AssertSqlSafe(count))
                        .bind(text)
                        .fetch_one(&mut connection)
                        .await
                        .unwrap()
                }
            };
        }
        found
    }

    /// Runs a statement that the product never runs.
    pub(crate) async fn execute(&self, statement: &'static str) {
        match self.back_end {
            BackEnd::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
            BackEnd::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
        }
    }

    pub(crate) async fn user(&self, name: &str) -> User {
        self.store.create_user(NewUser::for_tests(name), NOW).await.unwrap()
    }

    /// A public room of `owner`, whose log is empty: what waits in the outbox is removed.
    pub(crate) async fn room(&self, name: &str, owner: &User) -> Room {
        let new = CreateRoom::public(RoomName::parse(name).unwrap(), owner.id);
        let room = self.store.create_room(new, NOW).await.unwrap();
        self.forget_outbox(room.id).await;
        room
    }

    /// A private room of `owner`, whose log is empty.
    pub(crate) async fn private_room(&self, name: &str, owner: &User) -> Room {
        let new = CreateRoom {
            is_private: true,
            ..CreateRoom::public(RoomName::parse(name).unwrap(), owner.id)
        };
        let room = self.store.create_room(new, NOW).await.unwrap();
        self.forget_outbox(room.id).await;
        room
    }

    /// Removes what the outbox has of `room`.
    async fn forget_outbox(&self, room: RoomId) {
        let statement = "DELETE FROM outbox WHERE room_id = $1";
        match self.back_end {
            BackEnd::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query(statement).bind(room.0).execute(&mut connection).await.unwrap();
            }
            BackEnd::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query(statement).bind(room.0).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// Joins by name, without an entry in the log, and returns the membership.
    pub(crate) async fn join(&self, room: RoomId, user: &User) -> Option<MembershipId> {
        let outcome = patiently(async || self.store.join_public(room, user.id, JoinMode::ByName, NOW).await).await;
        self.forget_outbox(room).await;
        match outcome {
            JoinOutcome::Member(membership) => Some(membership),
            JoinOutcome::NotFound | JoinOutcome::Replaced => None,
        }
    }

    /// Claims partition 0 as another worker.
    pub(crate) async fn claim(&self) -> Claim {
        self.store.claim(&[FIRST], "worker").await.unwrap()[0]
    }

    /// Stores one message for each of `texts`, the first at log entry id `from`-0.
    pub(crate) async fn post(&self, claim: &mut Claim, room: RoomId, sender: UserId, texts: &[&str]) -> Vec<MessageId> {
        let first = claim.cursor.ms + 1;
        let messages: Vec<Accepted> = texts.iter().map(|text| message(room, sender, text)).collect();
        let entries = (first..).zip(&messages).map(|(ms, message)| entry(ms, message.clone())).collect();
        self.commit(claim, entries).await.unwrap();
        messages.iter().map(|message| message.id).collect()
    }

    /// Commits `entries` and moves the cursor of `claim` after them.
    pub(crate) async fn commit(&self, claim: &mut Claim, entries: Vec<Entry>) -> Result<Committed, CommitError> {
        let batch = PartitionBatch { claim: *claim, entries };
        let upto = batch.upto();
        let committed = self.store.commit(Arc::new([batch]), NOW, async {}).await?;
        claim.cursor = upto;
        Ok(committed)
    }
}

/// The URL of a database that is empty, or is created when it is opened.
async fn fresh(back_end: BackEnd, directory: &TempDir) -> String {
    let name = format!("chat_{}", Uuid::new_v4().simple());
    match back_end {
        BackEnd::Sqlite => format!("sqlite://{}", directory.path().join(&name).join("roomcast.db").display()),
        BackEnd::Postgres => {
            let server = std::env::var(SERVER_VARIABLE)
                .expect("TEST_POSTGRES_URL names no Postgres: run `make tests`, or deploy/postgres.sh cargo test");
            let mut connection = PgConnection::connect(&server).await.unwrap();
            let statement = format!("CREATE DATABASE {name}");
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
            let (address, _) = server.rsplit_once('/').unwrap();
            format!("{address}/{name}")
        }
    }
}

pub(crate) fn message(room: RoomId, sender: UserId, text: &str) -> Accepted {
    Accepted {
        id: MessageId::fresh(),
        room,
        sender,
        text: MessageText::parse(text).unwrap(),
        in_reply_to: None,
        mentions: Vec::new(),
        created_on: NOW,
        reply_to: None,
    }
}

/// A hint about all that the outbox has of `room`.
pub(crate) fn hint(room: RoomId) -> Command {
    Command::Outbox(OutboxHint { room, upto: i64::MAX })
}

pub(crate) fn entry(ms: i64, message: Accepted) -> Entry {
    command(ms, Command::Message(message))
}

pub(crate) fn command(ms: i64, command: Command) -> Entry {
    Entry {
        log_entry_id: LogEntryId { ms, counter: 0 },
        content: command.into(),
    }
}

/// The messages among `entries`.
pub(crate) fn messages(entries: Vec<RoomEntry>) -> Vec<StoredMessage> {
    let message = |entry| match entry {
        RoomEntry::Message(message) => Some(message),
        RoomEntry::Change(_) => None,
    };
    entries.into_iter().filter_map(message).collect()
}

/// The seqs of what a commit stored in `room`.
pub(crate) fn seqs(committed: &Committed, room: RoomId) -> Vec<Seq> {
    let of_room = committed.rooms.iter().filter(|of_room| of_room.room == room);
    of_room.flat_map(|of_room| of_room.entries.iter().map(RoomEntry::seq)).collect()
}

/// What a call that is made thousands of times returns. The server ends a transaction whose client pauses for a second, as a busy machine
/// may let it; nothing of it is stored then.
pub(crate) async fn patiently<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> T {
    for _ in 0..3 {
        match call().await {
            Err(error) => eprintln!("once more: {error}"),
            Ok(value) => return value,
        }
    }
    call().await.unwrap()
}

/// Waits for something that must happen, for at most ten seconds.
pub(crate) async fn within_ten_seconds<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), event).await.expect("it happens within ten seconds")
}

pub(crate) const FIRST: Partition = Partition(0);

/// A part of a room's history, and the room's last seq.
pub(crate) struct Page {
    pub(crate) head: Seq,
    pub(crate) messages: Vec<StoredMessage>,
}

/// At most `limit` messages of `room` within `window`, if `user` may see it.
pub(crate) async fn page(store: &Store, room: RoomId, user: UserId, window: Window, limit: u32) -> Option<Page> {
    let news = store.history_page(room, Some(user), window, limit, None).await.unwrap()?;
    Some(Page {
        head: news.head.seq,
        messages: news.messages.unwrap(),
    })
}
