//! Search: what is found does not depend on how far the index has come, and what is deleted is in no page of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::domain::{
    AcceptedChange, ChangeRequest, Command, MessageId, MessageText, RoomId, SearchQuery, Timestamp, UserId,
};
use shared::storage::{Claim, FoundMessage, Search, SearchError, SearchPage, Store};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::support::{BackEnd, Database, NOW, command, on_both_back_ends};

on_both_back_ends![
    words_phrases_and_beginnings_are_found_folded,
    index_changes_nothing_but_the_time,
    deleted_and_replaced_words_leave_the_index,
    changes_during_indexing_are_not_lost,
    only_visible_rooms_are_searched,
    rooms_are_searched_together_newest_first,
    late_search_goes_on_where_it_ended,
    any_query_is_answered,
];

/// Long enough for every machine.
const PATIENT: Duration = Duration::from_mins(1);

/// Seqs of the smallest segment of the index.
const SEGMENT: usize = 64;

fn query(text: &str, user: UserId, room: Option<RoomId>) -> Search {
    Search {
        query: SearchQuery::parse(text).unwrap(),
        user,
        room,
        from: None,
        before: None,
        limit: 100,
        timeout: PATIENT,
    }
}

/// Everything that `search` finds, in pages of its limit.
async fn all(store: &Store, mut search: Search) -> Vec<FoundMessage> {
    let mut found: Vec<FoundMessage> = Vec::new();
    loop {
        let page: SearchPage = store.search(&search).await.unwrap().unwrap();
        assert!(page.messages.len() <= search.limit as usize);
        found.extend(page.messages);
        match page.next {
            Some(next) => {
                assert!(search.before.is_none_or(|before| next < before), "it does not go on");
                search.before = Some(next);
            }
            None => break,
        }
    }
    assert!(found.is_sorted_by(|a, b| a.position > b.position));
    found
}

fn texts(found: &[FoundMessage]) -> Vec<&str> {
    found.iter().map(|found| found.message.text.as_str()).collect()
}

/// Indexes `room` as far as it can be.
async fn index(store: &Store, room: RoomId) {
    while store.index_room(room).await.unwrap() {}
}

fn change(room: RoomId, sender: UserId, target: MessageId, text: Option<&str>) -> Command {
    Command::Change(AcceptedChange {
        id: MessageId::fresh(),
        room,
        sender,
        created_on: NOW,
        receipt_to: None,
        target,
        request: match text {
            Some(text) => ChangeRequest::Edit {
                text: MessageText::parse(text).unwrap(),
                oldest: Timestamp(0),
            },
            None => ChangeRequest::Delete { as_moderator: false },
        },
    })
}

async fn commit(db: &Database, claim: &mut Claim, commands: impl IntoIterator<Item = Command>) {
    let first = claim.cursor.ms + 1;
    let entries = (first..).zip(commands).map(|(ms, done)| command(ms, done)).collect();
    db.commit(claim, entries).await.unwrap();
}

/// The pages of the index: first words and postings, as they are.
async fn pages(db: &Database) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pages = "SELECT first_word, postings FROM search_pages";
    match db.back_end {
        BackEnd::Sqlite => {
            let mut connection = SqliteConnection::connect(&db.url).await.unwrap();
            sqlx::query_as(pages).fetch_all(&mut connection).await.unwrap()
        }
        BackEnd::Postgres => {
            let mut connection = PgConnection::connect(&db.url).await.unwrap();
            sqlx::query_as(pages).fetch_all(&mut connection).await.unwrap()
        }
    }
}

/// Whether some page of the index has `word`, which shares its first letter with no other one.
async fn is_indexed(db: &Database, word: &str) -> bool {
    let has = |bytes: &Vec<u8>| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    pages(db).await.iter().any(|(first, page)| has(first) || has(page))
}

async fn words_phrases_and_beginnings_are_found_folded(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let said = [
        "Hello brave new World",
        "a new hello",
        "Crème brûlée, please",
        "ＨＥＬＬＯ ﬁne",
        "東京タワー",
    ];
    db.post(&mut claim, room, ann.id, &said).await;
    let filler = vec!["nothing of note"; SEGMENT];
    for indexed in [false, true] {
        if indexed {
            db.post(&mut claim, room, ann.id, &filler).await;
            index(&db.store, room).await;
            assert!(is_indexed(&db, "brave").await);
        }
        for (text, expected) in [
            ("hello", vec![said[3], said[1], said[0]]),
            ("HÉLLO new", vec![said[1], said[0]]),
            ("\"new world\"", vec![said[0]]),
            ("\"world new\"", vec![]),
            ("wor*", vec![said[0]]),
            ("wor", vec![]),
            ("b*", vec![said[2], said[0]]),
            ("creme BRULEE", vec![said[2]]),
            ("fine", vec![said[3]]),
            ("京タ", vec![said[4]]),
            ("\"brave ne*\"", vec![said[0]]),
            ("absent", vec![]),
            ("hello absent", vec![]),
        ] {
            let found = all(&db.store, query(text, ann.id, Some(room))).await;
            assert_eq!(texts(&found), expected, "{text}, indexed: {indexed}");
        }
    }
}

/// A generator of numbers that is the same everywhere (the constants are Knuth's).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// A few words, the first ones of the list much more often.
    fn text(&mut self) -> String {
        let count = 1 + self.below(8);
        let word = |numbers: &mut Self| {
            let most = 1 + numbers.below(60);
            format!("w{}", numbers.below(most))
        };
        (0..count).map(|_| word(self)).collect::<Vec<_>>().join(" ")
    }
}

/// Posts, edits and deletes at random while the index follows in steps, and compares with a search of everything.
async fn index_changes_nothing_but_the_time(db: Database) {
    let users = [db.user("ann").await.id, db.user("bob").await.id];
    let owner = db.user("owner").await;
    let room = db.room("lobby", &owner).await.id;
    let mut claim = db.claim().await;
    let mut numbers = Numbers(1);
    let mut stored: Vec<(MessageId, UserId, String)> = Vec::new();
    let mut steps = 0;
    for round in 0..40 {
        let sender = users[numbers.below(2)];
        let new: Vec<String> = (0..=numbers.below(120)).map(|_| numbers.text()).collect();
        let ids = db.post(&mut claim, room, sender, &new.iter().map(String::as_str).collect::<Vec<_>>()).await;
        stored.extend(ids.into_iter().zip(new).map(|(id, text)| (id, sender, text)));
        let mut changes = Vec::new();
        for _ in 0..numbers.below(12) {
            let index = numbers.below(stored.len());
            let (id, sender, text) = &mut stored[index];
            let new = (numbers.below(3) > 0 && !text.is_empty()).then(|| numbers.text());
            changes.push(change(room, *sender, *id, new.as_deref()));
            *text = new.unwrap_or_default();
        }
        if !changes.is_empty() {
            commit(&db, &mut claim, changes).await;
        }
        for _ in 0..numbers.below(3) {
            db.store.index_room(room).await.unwrap();
            steps += 1;
        }
        if round % 10 == 9 {
            compare(&db, (owner.id, room), &users, &stored).await;
        }
    }
    index(&db.store, room).await;
    compare(&db, (owner.id, room), &users, &stored).await;
    assert!(steps > 20 && stored.len() > 1_500, "{steps} {}", stored.len());
    // Another owner of the index finds nothing to do.
    assert!(!db.store.index_room(room).await.unwrap());
    assert_eq!(db.store.rooms_to_index(RoomId(0), 10).await.unwrap(), []);
}

async fn compare(
    db: &Database,
    (reader, room): (UserId, RoomId),
    users: &[UserId],
    stored: &[(MessageId, UserId, String)],
) {
    for text in ["w1", "w50", "w0 w2", "\"w0 w1\"", "w4*", "w5* w1", "\"w1 w2*\"", "w99"] {
        for (from, limit) in [(None, 100), (None, 7), (Some(users[0]), 5)] {
            let search = Search {
                from,
                limit,
                ..query(text, reader, Some(room))
            };
            let matches = |(_, sender, text): &&(MessageId, UserId, String)| {
                from.is_none_or(|from| from == *sender) && search.query.find(text).is_some()
            };
            let expected: Vec<MessageId> = stored.iter().rev().filter(matches).map(|(id, ..)| *id).collect();
            let found: Vec<MessageId> =
                all(&db.store, search.clone()).await.iter().map(|found| found.message.id).collect();
            assert_eq!(found, expected, "{text} from {from:?}");
        }
    }
}

async fn deleted_and_replaced_words_leave_the_index(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let gone = db.post(&mut claim, room, ann.id, &["zcanary one"]).await[0];
    let edited = db.post(&mut claim, room, ann.id, &["qcanary two"]).await[0];
    let long = format!("x{} three", "y".repeat(3_000));
    let long = db.post(&mut claim, room, ann.id, &[&long]).await[0];
    // Enough for one segment of each of two levels.
    let filler: Vec<String> = (0..1_100).map(|n| format!("filler {n} of many")).collect();
    db.post(&mut claim, room, ann.id, &filler.iter().map(String::as_str).collect::<Vec<_>>()).await;
    index(&db.store, room).await;
    for word in ["zcanary", "qcanary", "xyyyyyyy"] {
        assert!(is_indexed(&db, word).await, "{word}");
    }
    commit(
        &db,
        &mut claim,
        [
            change(room, ann.id, gone, None),
            change(room, ann.id, edited, Some("jnovel two")),
            change(room, ann.id, long, None),
        ],
    )
    .await;
    for word in ["zcanary", "qcanary", "xyyyyyyy"] {
        assert!(!is_indexed(&db, word).await, "{word}");
        assert!(all(&db.store, query(word, ann.id, None)).await.is_empty());
        assert!(all(&db.store, query(&format!("{}*", &word[..2]), ann.id, None)).await.is_empty());
    }
    assert!(is_indexed(&db, "jnovel").await);
    for text in ["jnovel", "two", "jno*", "\"jnovel two\""] {
        let found = all(&db.store, query(text, ann.id, None)).await;
        assert_eq!(texts(&found), ["jnovel two"], "{text}");
    }
    // A second change of the same message in one commit, and one in a commit of its own.
    commit(
        &db,
        &mut claim,
        [
            change(room, ann.id, edited, Some("kthird")),
            change(room, ann.id, edited, Some("lfourth")),
        ],
    )
    .await;
    commit(&db, &mut claim, [change(room, ann.id, edited, None)]).await;
    for word in ["jnovel", "kthird", "lfourth"] {
        assert!(!is_indexed(&db, word).await, "{word}");
    }
}

/// Whatever the order in which texts are read, deleted and indexed: what is deleted is not in the index.
async fn changes_during_indexing_are_not_lost(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let (store, stop) = (db.store.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let indexer = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            store.index_room(room).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for round in 0..30 {
        let said: Vec<String> = (0..SEGMENT).map(|n| format!("zsecret{round} {n}")).collect();
        let ids = db.post(&mut claim, room, ann.id, &said.iter().map(String::as_str).collect::<Vec<_>>()).await;
        commit(&db, &mut claim, ids.into_iter().map(|id| change(room, ann.id, id, None))).await;
    }
    stop.store(true, Ordering::Relaxed);
    indexer.await.unwrap();
    index(&db.store, room).await;
    assert!(!is_indexed(&db, "zsecret").await);
    assert!(all(&db.store, query("zsecret*", ann.id, None)).await.is_empty());
}

async fn only_visible_rooms_are_searched(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let public = db.room("public", &ann).await.id;
    let private = db.private_room("private", &ann).await.id;
    let deleted = db.room("deleted", &ann).await.id;
    let mut claim = db.claim().await;
    for room in [public, private, deleted] {
        db.post(&mut claim, room, ann.id, &["word"]).await;
    }
    db.store.delete_room(deleted, NOW).await.unwrap();
    let rooms = async |user: UserId, room: Option<RoomId>| {
        let page = db.store.search(&query("word", user, room)).await.unwrap()?;
        Some(page.messages.into_iter().map(|found| found.room).collect::<Vec<_>>())
    };
    assert_eq!(rooms(ann.id, None).await.unwrap(), ["private", "public"]);
    assert_eq!(rooms(ann.id, Some(private)).await.unwrap(), ["private"]);
    assert_eq!(rooms(ann.id, Some(deleted)).await, None);
    // Without a room only those are searched that the user is in.
    assert!(rooms(bob.id, None).await.unwrap().is_empty());
    assert_eq!(rooms(bob.id, Some(public)).await.unwrap(), ["public"]);
    assert_eq!(rooms(bob.id, Some(private)).await, None);
    db.join(public, &bob).await;
    assert_eq!(rooms(bob.id, None).await.unwrap(), ["public"]);
    db.store.leave(private, ann.id, NOW).await.unwrap();
    assert_eq!(rooms(ann.id, None).await.unwrap(), ["public"]);
    assert_eq!(rooms(ann.id, Some(private)).await, None);
}

async fn rooms_are_searched_together_newest_first(db: Database) {
    let ann = db.user("ann").await;
    let mut rooms = Vec::new();
    for number in 0..5 {
        rooms.push(db.room(&format!("room{number}"), &ann).await.id);
    }
    let mut claim = db.claim().await;
    let mut expected: Vec<String> = Vec::new();
    let mut numbers = Numbers(7);
    for number in 0..600 {
        let room = rooms[numbers.below(rooms.len())];
        let text = if number % 3 == 0 {
            format!("wanted {number}")
        } else {
            format!("other {number}")
        };
        db.post(&mut claim, room, ann.id, &[&text]).await;
        if number % 3 == 0 {
            expected.insert(0, text);
        }
        if number % 100 == 50 {
            index(&db.store, room).await;
        }
    }
    for limit in [1, 9, 100] {
        let search = Search {
            limit,
            ..query("wanted", ann.id, None)
        };
        assert_eq!(texts(&all(&db.store, search).await), expected, "{limit}");
    }
    let rare = all(&db.store, query("300", ann.id, None)).await;
    assert_eq!(texts(&rare), ["wanted 300"]);
    let due = db.store.rooms_to_index(RoomId(0), 10).await.unwrap();
    assert!(due.is_sorted() && !due.is_empty() && db.store.rooms_to_index(due[0], 10).await.unwrap() == due[1..]);
    assert_eq!(db.store.rooms_to_index(RoomId(0), 1).await.unwrap(), due[..1]);
}

async fn late_search_goes_on_where_it_ended(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let said: Vec<String> = (0..1_500).map(|n| format!("word{} all", n % 500)).collect();
    for part in said.chunks(500) {
        db.post(&mut claim, room, ann.id, &part.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let search = Search {
        timeout: Duration::ZERO,
        ..query("word7", ann.id, None)
    };
    for indexed in [false, true] {
        if indexed {
            index(&db.store, room).await;
        }
        let first = db.store.search(&search).await.unwrap().unwrap();
        assert!(first.next.is_some(), "it was not late");
        assert_eq!(all(&db.store, search.clone()).await.len(), 3, "indexed: {indexed}");
        let frequent = Search {
            timeout: Duration::ZERO,
            ..query("all", ann.id, None)
        };
        assert_eq!(all(&db.store, frequent).await.len(), 1_500);
    }
    // Of several rooms the newest matches are not known before all were searched.
    let other = db.room("other", &ann).await.id;
    db.post(&mut claim, other, ann.id, &["word8"]).await;
    assert!(matches!(db.store.search(&search).await, Err(SearchError::TooSlow)));
}

/// Queries that mean something to databases, or have nothing that can be searched for.
#[rustfmt::skip]
const QUERIES: [&str; 21] = [
    "\"", "*", "NEAR(", "near(a", "col:", "col:x", "a OR b", "'", "' OR 1=1 --", "\0", "x\0y", "%", "_", "\\",
    "\u{FFFF}", "🦀", "-x", "^x", "{x}", "\"\"\"", "あ",
];

async fn any_query_is_answered(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let letters = "x".repeat(4_000);
    let kana = "あ".repeat(4_000);
    let said = [
        "NEAR(a b) col:x OR '1'='1'",
        letters.as_str(),
        kana.as_str(),
        "\" * ^ -",
    ];
    db.post(&mut claim, room, ann.id, &said).await;
    db.post(&mut claim, room, ann.id, &vec!["filler"; SEGMENT]).await;
    let longest = "x".repeat(SearchQuery::MAX_LEN);
    let stars = "x* ".repeat(SearchQuery::MAX_LEN / 3);
    let many = "a b c d e f g h i j ".repeat(10);
    let queries = QUERIES.iter().copied().chain([longest.as_str(), &stars, &many]);
    let mut found: Vec<BTreeMap<&str, Vec<usize>>> = Vec::new();
    for indexed in [false, true] {
        if indexed {
            index(&db.store, room).await;
        }
        let mut answers = BTreeMap::new();
        for text in queries.clone() {
            let page = all(&db.store, query(text, ann.id, Some(room))).await;
            let which = |found: &FoundMessage| said.iter().position(|text| *text == found.message.text).unwrap();
            answers.insert(text, page.iter().map(which).collect());
        }
        found.push(answers);
    }
    assert_eq!(found[0], found[1]);
    for (text, expected) in [
        ("col:x", vec![0]),
        ("NEAR(", vec![0]),
        ("あ", vec![2]),
        ("*", vec![]),
        (&stars, vec![1, 0]),
    ] {
        assert_eq!(found[0][text], expected, "{text}");
    }
    let beginning = all(&db.store, query(&format!("{}*", &longest[1..]), ann.id, Some(room))).await;
    assert_eq!(beginning.len(), 1);
}
