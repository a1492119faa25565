//! Measures searches in a room of a million messages: how long they take by what they look for, what the index costs, and how fast it
//! is built. It prints a table; `MESSAGES=` is another number of messages.
//!
//! Postgres is measured if `TEST_POSTGRES_URL` names a server: `deploy/postgres.sh cargo bench --bench search`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::domain::{
    Accepted, LogEntryId, MessageId, MessageText, Partition, RoomId, RoomName, SearchQuery, Timestamp, UserId,
};
use shared::storage::{Claim, CreateRoom, Entry, EntryContent, NewUser, PartitionBatch, Role, Search, Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// Messages in the room, unless the environment says otherwise.
const MESSAGES: u64 = 1_000_000;
/// Messages of a transaction.
const BATCH: u64 = 500;
/// Words that texts are made of, drawn so that the `n`th is `n` times as rare as the first, as in a language.
const VOCABULARY: u32 = 50_000;
/// Searches of each kind.
const SEARCHES: u32 = 300;
/// Users who post in turn; the last one posts every thousandth message.
const USERS: usize = 10;

/// A generator of numbers that is the same everywhere (the constants are Knuth's).
struct Numbers(u64);

impl Numbers {
    /// From 0 to 1, without 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).expect("32 bits")) / 2_f64.powi(32)
    }

    /// The number of a word: the logarithm is spread evenly.
    fn word(&mut self) -> String {
        word(f64::from(VOCABULARY).powf(self.fraction()))
    }

    /// 5 to 25 words.
    fn text(&mut self) -> String {
        let count = 5.0 + self.fraction() * 20.0;
        let mut text = self.word();
        let mut words = 1.0;
        while words < count {
            text.push(' ');
            text.push_str(&self.word());
            words += 1.0;
        }
        text
    }
}

/// The word of a rank: the digits of a number that is larger the rarer it is, as letters.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 1 and the vocabulary"
)]
fn word(rank: f64) -> String {
    let mut rest = u64::from(rank as u32).wrapping_mul(2_654_435_761) % 11_881_376;
    let mut letters = String::new();
    for _ in 0..5 {
        letters.push(char::from(b'a' + u8::try_from(rest % 26).expect("below 26")));
        rest /= 26;
    }
    letters
}

struct Target {
    store: Store,
    url: String,
    users: Vec<UserId>,
    room: RoomId,
    claim: Claim,
}

impl Target {
    async fn open(url: String) -> Self {
        let store = Store::open(&url, Role::Worker).await.expect("the database opens");
        store.migrate(1, 1).await.expect("the schema is made");
        let mut users = Vec::new();
        for number in 0..USERS {
            let new = NewUser::for_tests(&format!("user{number}"));
            users.push(store.create_user(new, NOW).await.expect("a user is made").id);
        }
        let name = RoomName::parse("room").expect("a valid name");
        let room = store.create_room(CreateRoom::public(name, users[0]), NOW).await.expect("a room is made").id;
        let claim = store.claim(&[Partition(0)], "bench").await.expect("the partition is free")[0];
        Self {
            store,
            url,
            users,
            room,
            claim,
        }
    }

    async fn fill(&mut self, count: u64) {
        let mut numbers = Numbers(1);
        let mut posted = 0;
        while posted < count {
            let mut entries = Vec::new();
            for _ in 0..BATCH.min(count - posted) {
                posted += 1;
                let last = self.users.len() - 1;
                let turn = usize::try_from(posted).expect("it fits") % last;
                let sender = if posted % 1_000 == 0 { last } else { turn };
                let content = EntryContent::Message(Accepted {
                    id: MessageId::fresh(),
                    room: self.room,
                    sender: self.users[sender],
                    text: MessageText::parse(&numbers.text()).expect("a short text is one"),
                    in_reply_to: None,
                    mentions: Vec::new(),
                    created_on: NOW,
                    reply_to: None,
                });
                let ms = i64::try_from(posted).expect("it fits");
                let log_entry_id = LogEntryId { ms, counter: 0 };
                entries.push(Entry { log_entry_id, content });
            }
            let batch = PartitionBatch {
                claim: self.claim,
                entries,
            };
            self.claim.cursor = batch.upto();
            self.store.commit(Arc::new([batch]), NOW, async {}).await.expect("the transaction is committed");
        }
    }

    /// Bytes of the tables and their indexes: of the messages, and of the index of words.
    async fn bytes(&self) -> (i64, i64) {
        if self.url.starts_with("sqlite:") {
            let mut file = SqliteConnection::connect(&self.url).await.expect("the file opens");
            let pages = "SELECT COALESCE(SUM(pgsize), 0) FROM dbstat WHERE name LIKE $1 OR name LIKE $2";
            let messages = sqlx::query_scalar(pages).bind("messages%").bind("-").fetch_one(&mut file).await;
            let index = sqlx::query_scalar(pages)
                .bind("search%")
                .bind("sqlite_autoindex_search%")
                .fetch_one(&mut file)
                .await;
            (messages.unwrap_or(0), index.unwrap_or(0))
        } else {
            let mut server = PgConnection::connect(&self.url).await.expect("the server answers");
            let sizes = "SELECT pg_total_relation_size('messages'),
                                pg_total_relation_size('search_rooms') + pg_total_relation_size('search_pages')";
            sqlx::query_as(sizes).fetch_one(&mut server).await.expect("the tables exist")
        }
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

/// What is searched for: what it is, the query, and whose messages are wanted.
fn kinds(first: UserId, last: UserId) -> Vec<(&'static str, String, Option<UserId>)> {
    let ranked = |rank: f64| word(rank);
    let two = format!("{} {}", ranked(50.0), ranked(60.0));
    let phrase = format!("\"{} {}\"", ranked(3.0), ranked(5.0));
    let rare_phrase = format!("\"{} {}\"", ranked(200.0), ranked(300.0));
    vec![
        ("rare word", ranked(49_000.0), None),
        ("word of every thousandth message", ranked(1_400.0), None),
        ("frequent word", ranked(1.0), None),
        ("word that is not there", "nowhere".to_owned(), None),
        ("two frequent words", format!("{} {}", ranked(1.0), ranked(2.0)), None),
        ("two words", two, None),
        ("two rare words", format!("{} {}", ranked(5_000.0), ranked(6_000.0)), None),
        ("frequent phrase", phrase, None),
        ("rare phrase", rare_phrase, None),
        ("beginning, four letters", format!("{}*", &ranked(49_000.0)[..4]), None),
        ("beginning, one letter", "a*".to_owned(), None),
        ("frequent word of a rare sender", ranked(1.0), Some(last)),
        ("rare word of a sender", ranked(20_000.0), Some(first)),
    ]
}

async fn measure(name: &str, url: String, count: u64) {
    let mut target = Target::open(url).await;
    let began = Instant::now();
    target.fill(count).await;
    let filled = began.elapsed();
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    loop {
        let step = Instant::now();
        let is_more = target.store.index_room(target.room).await.expect("the room is indexed");
        longest = longest.max(step.elapsed());
        if !is_more {
            break;
        }
    }
    let indexed = began.elapsed();
    let (messages, index) = target.bytes().await;
    let per_message = |bytes: i64| bytes / i64::try_from(count).unwrap_or(i64::MAX);
    println!("\n{name}: {count} messages stored in {filled:.1?}, indexed in {indexed:.1?}, longest step {longest:.1?}");
    println!("bytes a message: {} of messages, {} of the index", per_message(messages), per_message(index));
    println!("| search | found | p50 | p99 | slowest |\n|---|---|---|---|---|");
    for (kind, query, from) in kinds(target.users[0], target.users[USERS - 1]) {
        let search = Search {
            query: SearchQuery::parse(&query).expect("a short text is a query"),
            user: target.users[0],
            room: Some(target.room),
            from,
            before: None,
            limit: 20,
            timeout: Duration::from_secs(1),
        };
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..SEARCHES {
            let began = Instant::now();
            let page = target.store.search(&search).await.expect("the search succeeds").expect("the room is there");
            times.push(began.elapsed());
            found = page.messages.len();
        }
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        println!("| {kind} | {found} | {:.1?} | {:.1?} | {:.1?} |", at(50), at(99), times[times.len() - 1]);
    }
    target.store.close().await;
}

fn main() {
    let count = std::env::var("MESSAGES").ok().and_then(|count| count.parse().ok()).unwrap_or(MESSAGES);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("a directory is made");
        let file = format!("sqlite://{}", directory.path().join("bench.db").display());
        measure("SQLite", file, count).await;
        match std::env::var("TEST_POSTGRES_URL") {
            Ok(server) => measure("Postgres", fresh_on(&server).await, count).await,
            Err(_) => println!("TEST_POSTGRES_URL is not set: Postgres is left out"),
        }
    });
}
