//! Benchmark: messages stored per second, by the size of the transaction. It covers a whole commit, from the check of the fences
//! to the disk.
//!
//! SQLite writes to a temporary directory and syncs every commit. If that directory (`TMPDIR`) is in memory, the disk is not part
//! of the figure. Postgres is measured if `TEST_POSTGRES_URL` names a server: `deploy/postgres.sh cargo bench`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shared::domain::{Accepted, LogEntryId, MessageId, MessageText, Partition, RoomId, RoomName, Timestamp, UserId};
use shared::storage::{Claim, CreateRoom, Entry, EntryContent, NewUser, PartitionBatch, Role, Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::runtime::Runtime;
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// A text of average length.
const TEXT: &str =
    "a message of about the length that people write, one hundred bytes of it, give or take a few of them";
/// Rooms that messages are spread over, in turn.
const ROOMS: usize = 50;
/// Numbers of messages in a transaction.
const SIZES: [usize; 5] = [1, 10, 50, 100, 500];

/// A database with rooms, and the claim with the cursor up to which it is filled.
struct Target {
    store: Store,
    sender: UserId,
    rooms: Vec<RoomId>,
    claim: Claim,
}

impl Target {
    async fn open(url: &str) -> Self {
        let store = Store::open(url, Role::Worker).await.expect("the database opens");
        store.migrate(1, 1).await.expect("the schema is made");
        let sender = store.create_user(NewUser::for_tests("ann"), NOW).await.expect("a user is made").id;
        let mut rooms = Vec::new();
        for number in 0..ROOMS {
            let name = RoomName::parse(&format!("room{number}")).expect("a valid name");
            rooms.push(store.create_room(CreateRoom::public(name, sender), NOW).await.expect("a room is made").id);
        }
        let claim = store.claim(&[Partition(0)], "bench").await.expect("the partition is free")[0];
        Self {
            store,
            sender,
            rooms,
            claim,
        }
    }

    /// The next transaction of `size` messages.
    fn next(&mut self, size: usize) -> Arc<[PartitionBatch]> {
        let first = self.claim.cursor.ms + 1;
        let entry = |(ms, room): (i64, &RoomId)| Entry {
            log_entry_id: LogEntryId { ms, counter: 0 },
            content: EntryContent::Message(Accepted {
                id: MessageId::fresh(),
                room: *room,
                sender: self.sender,
                text: MessageText::parse(TEXT).expect("a short text is one"),
                in_reply_to: None,
                mentions: Vec::new(),
                created_on: NOW,
                reply_to: None,
            }),
        };
        let entries = (first..).zip(self.rooms.iter().cycle()).take(size).map(entry).collect();
        let batch = PartitionBatch {
            claim: self.claim,
            entries,
        };
        self.claim.cursor = batch.upto();
        Arc::new([batch])
    }

    /// The time that `count` transactions of `size` messages take.
    async fn fill(&mut self, count: u64, size: usize) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..count {
            let batch = self.next(size);
            let began = Instant::now();
            self.store.commit(batch, NOW, async {}).await.expect("the transaction is committed");
            total += began.elapsed();
        }
        total
    }
}

/// Creates a database on `server` and returns its URL.
async fn fresh_on(server: &str) -> String {
    let name = format!("bench_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(server).await.expect("TEST_POSTGRES_URL names a server");
    let statement = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(statement).execute(&mut connection).await.expect("we may make databases");
    let (address, _) = server.rsplit_once('/').expect("a URL has a path");
    format!("{address}/{name}")
}

fn commits(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let directory = tempfile::tempdir().expect("a directory is made");
    let mut targets = vec![("SQLite", format!("sqlite://{}", directory.path().join("bench.db").display()))];
    match std::env::var("TEST_POSTGRES_URL") {
        Ok(server) => targets.push(("Postgres", runtime.block_on(fresh_on(&server)))),
        Err(_) => println!("TEST_POSTGRES_URL is not set: Postgres is left out"),
    }
    for (name, url) in targets {
        let mut target = runtime.block_on(Target::open(&url));
        let mut group = criterion.benchmark_group(format!("commit to {name}"));
        group.sample_size(20);
        for size in SIZES {
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter_custom(|count| runtime.block_on(target.fill(count, size)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, commits);
criterion_main!(benches);
