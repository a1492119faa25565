//! Catching up with all rooms by calls, whose cursors are those of the stream.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rig::{ApiClient, Backend, Failure, Method, Result, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::{SOON, fill, lose_last_message, with_lobby};
use crate::user_device::Device;

/// Bytes of an answer at most.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Rooms that are gone and that one answer names at most.
const GONE_AT_MOST: usize = 1_000;

async fn join(client: &ApiClient, room: &str) {
    client.call(Method::POST, &format!("/chat/{room}/join")).await.unwrap().expect(204).unwrap();
}

/// Posts a message and waits until it is stored.
async fn post(client: &ApiClient, room: &str, text: &str) -> Result<()> {
    let id = client.post(room, text).await?;
    eventually(SOON, "the message is stored", async || {
        let newest = client.history(room, "?limit=1").await?;
        let is_stored = newest.first().is_some_and(|message| message["id"] == id.as_str());
        is_stored.then_some(()).ok_or_else(|| Failure::new("not yet"))
    })
    .await
}

/// `ann` with `lobby` and two further rooms, and `bob`, who is in all of them.
async fn three_rooms(backend: Backend) -> (Stack, ApiClient, ApiClient) {
    let stack = Stack::builder().without_limits().backend(backend).gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let bob = ann.register("bob").await.unwrap();
    join(&bob, "lobby").await;
    for room in ["hall", "attic"] {
        ann.create_room(room).await.unwrap();
        join(&bob, room).await;
    }
    // The stream of anybody who is in a room shows when the joins are in its log.
    eventually(SOON, "the joins are in the logs", async || {
        for room in ["lobby", "hall", "attic"] {
            let page = ann.get(&format!("/chat/{room}/messagehistory")).await?;
            match page.header("last-event-id") {
                Some(id) if id.ends_with("-2") => {}
                id => return Err(Failure::new(format!("{room} is at {id:?}"))),
            }
        }
        Ok(())
    })
    .await
    .unwrap();
    (stack, ann, bob)
}

fn names(answer: &Value) -> Vec<&str> {
    answer["rooms"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap()).collect()
}

async fn check_cold_start_and_changes(backend: Backend) {
    let (stack, ann, bob) = three_rooms(backend).await;
    for room in ["attic", "lobby", "hall"] {
        post(&ann, room, &format!("first in {room}")).await.unwrap();
    }
    let mut device = Device::new(&bob);
    let answers = device.catch_up(50).await.unwrap();
    assert_eq!((answers.len(), names(&answers[0])), (1, vec!["hall", "lobby", "attic"]), "by latest activity");
    let hall = &answers[0]["rooms"][0];
    assert_eq!((&hall["unread"], &hall["head"], &hall["role"]), (&json!(1), &json!(3), &json!("member")));
    assert_eq!(hall["entries"][0]["data"]["message"], "first in hall");
    let mut slow = Device::new(&bob.moved_to(&stack.gateways[1].url()).unwrap());
    let pages = slow.catch_up(1).await.unwrap();
    let of_pages: Vec<&str> = pages.iter().flat_map(names).collect();
    assert_eq!(of_pages, ["hall", "lobby", "attic"]);
    assert_eq!(slow.rooms, device.rooms);

    // Nothing has happened: an empty answer, and none at all for who has it.
    let response = device.sync(50).await.unwrap().expect(200).unwrap();
    let answer = response.json().unwrap();
    assert_eq!((&answer["rooms"], &answer["gone"], &answer["more"]), (&json!([]), &json!([]), &json!(false)));
    let tag = response.header("etag").unwrap().to_owned();
    let path = format!("/user/sync?limit=50&since={}", device.cursor.as_deref().unwrap());
    let again = bob.send(bob.request(Method::GET, &path).header("if-none-match", tag)).await.unwrap();
    assert_eq!((again.status(), again.bytes()), (304, &b""[..]));

    // A message, a change of a message, a room that is left and one that is created.
    post(&ann, "hall", "second in hall").await.unwrap();
    bob.call(Method::DELETE, "/chat/lobby/message").await.unwrap().expect(204).unwrap();
    bob.create_room("den").await.unwrap();
    for device in [&mut device, &mut slow] {
        let answers = device.catch_up(50).await.unwrap();
        assert_eq!(answers[0]["gone"], json!(["lobby"]));
        assert_eq!(device.texts("hall"), ["first in hall", "second in hall"]);
        assert_eq!(device.rooms.keys().collect::<Vec<_>>(), ["attic", "den", "hall"]);
    }
}

#[tokio::test]
async fn cold_start_shows_rooms_and_later_calls_what_changed() {
    check_cold_start_and_changes(Backend::Sqlite).await;
}

#[tokio::test]
async fn cold_start_shows_rooms_and_later_calls_what_changed_on_postgres() {
    check_cold_start_and_changes(Backend::Postgres).await;
}

#[tokio::test]
async fn cursors_of_calls_and_streams_are_the_same() {
    let (stack, ann, bob) = three_rooms(Backend::Sqlite).await;
    let mut device = Device::new(&bob);
    device.catch_up(50).await.unwrap();
    for round in 0..4 {
        post(&ann, "hall", &format!("hall {round}")).await.unwrap();
        post(&ann, "attic", &format!("attic {round}")).await.unwrap();
        device.move_to(&stack.gateways[round % 2].url()).unwrap();
        if round % 2 == 0 {
            let ready = device.open().await.unwrap();
            assert_eq!(ready["recovered"], true);
            device.message(&format!("hall {round}")).await.unwrap();
            if device.texts("attic").len() <= round {
                device.message(&format!("attic {round}")).await.unwrap();
            }
            device.close();
        } else {
            device.catch_up(1).await.unwrap();
        }
    }
    for room in ["hall", "attic"] {
        let expected: Vec<String> = (0..4).map(|round| format!("{room} {round}")).collect();
        assert_eq!(device.texts(room), expected);
    }
}

/// What was said since somebody joined on another device is missed as what was said in any other room, by a call and by a stream.
async fn check_rooms_joined_meanwhile(backend: Backend) {
    let (stack, ann, bob) = three_rooms(backend).await;
    let mut devices = [
        Device::new(&bob),
        Device::new(&bob.moved_to(&stack.gateways[1].url()).unwrap()),
    ];
    for device in &mut devices {
        device.catch_up(50).await.unwrap();
    }
    // A room that is joined, one that is left and joined again, and a direct one that another opens.
    ann.create_room("den").await.unwrap();
    post(&ann, "den", "before").await.unwrap();
    join(&bob, "den").await;
    bob.call(Method::DELETE, "/chat/hall/message").await.unwrap().expect(204).unwrap();
    post(&ann, "hall", "in between").await.unwrap();
    join(&bob, "hall").await;
    let direct = ann.call(Method::PUT, "/direct/bob").await.unwrap().expect(201).unwrap().json().unwrap();
    let direct = direct["name"].as_str().unwrap().to_owned();
    let rooms = ["den", "hall", &direct];
    for number in 0..3 {
        for room in rooms {
            post(&ann, room, &format!("{number}")).await.unwrap();
        }
    }
    let [called, streamed] = &mut devices;
    called.catch_up(50).await.unwrap();
    streamed.open().await.unwrap();
    while rooms.iter().any(|room| streamed.texts(room).len() < 3) {
        streamed.message("2").await.unwrap();
    }
    for room in rooms {
        assert_eq!((called.texts(room), streamed.texts(room)), (vec!["0", "1", "2"], vec!["0", "1", "2"]), "{room}");
    }
}

#[tokio::test]
async fn what_was_said_since_joining_elsewhere_is_missed() {
    check_rooms_joined_meanwhile(Backend::Sqlite).await;
}

#[tokio::test]
async fn what_was_said_since_joining_elsewhere_is_missed_on_postgres() {
    check_rooms_joined_meanwhile(Backend::Postgres).await;
}

#[tokio::test]
async fn much_missed_comes_as_newest_entries_behind_a_gap() {
    let (_stack, ann, bob) = three_rooms(Backend::Sqlite).await;
    let mut device = Device::new(&bob);
    device.catch_up(50).await.unwrap();
    // Two entries are in the log already: its creation, and that bob has joined.
    let filled = async {
        for number in 0..130 {
            ann.post("lobby", &format!("message {number}")).await?;
        }
        post(&ann, "lobby", "last").await
    };
    filled.await.unwrap();
    let answers = device.catch_up(50).await.unwrap();
    let lobby = &answers[0]["rooms"][0];
    assert_eq!((&lobby["gap"], lobby["entries"].as_array().unwrap().len()), (&json!({"from": 3, "to": 33}), 100));
    assert_eq!((device.rooms["lobby"], device.texts("lobby").last()), (133, Some(&"last")));
}

#[tokio::test]
async fn answers_stay_below_their_bound_and_lack_nothing() {
    let (_stack, ann, bob) = three_rooms(Backend::Sqlite).await;
    let mut device = Device::new(&bob);
    device.catch_up(50).await.unwrap();
    // Over 1 MiB together.
    let long = "🦀".repeat(2_000);
    for number in 0..60 {
        for room in ["lobby", "hall", "attic"] {
            ann.post(room, &format!("{number} {long}")).await.unwrap();
        }
    }
    for room in ["lobby", "hall", "attic"] {
        post(&ann, room, "last").await.unwrap();
    }
    let (mut sizes, mut rooms) = (Vec::new(), Vec::new());
    loop {
        let response = device.sync(50).await.unwrap().expect(200).unwrap();
        sizes.push(response.bytes().len());
        let more = response.json().unwrap()["more"] == true;
        let answers = device.catch_up_once().await.unwrap();
        rooms.extend(names(&answers).into_iter().map(str::to_owned));
        if !more {
            break;
        }
    }
    assert!(sizes.iter().all(|size| *size <= ANSWER_MAX_BYTES), "{sizes:?}");
    for room in ["lobby", "hall", "attic"] {
        assert_eq!(device.texts(room).last(), Some(&"last"), "{rooms:?}");
    }
}

#[tokio::test]
async fn unusable_cursor_of_a_call_begins_anew_and_says_why() {
    let (_stack, _ann, bob) = three_rooms(Backend::Sqlite).await;
    let reason = async |cursor: &str| {
        let answer = bob.get(&format!("/user/sync?since={cursor}")).await.unwrap().expect(200).unwrap().json().unwrap();
        assert_eq!(names(&answer).len(), 3, "{answer}");
        answer["reset"].clone()
    };
    assert_eq!(reason("garbage").await, "malformed");
    let (_other, _, carl) = three_rooms(Backend::Sqlite).await;
    let mut elsewhere = Device::new(&carl);
    elsewhere.catch_up(50).await.unwrap();
    assert_eq!(reason(&elsewhere.cursor.unwrap()).await, "foreign");
    for query in ["limit=0", "limit=101", "preview=21", "preview=x"] {
        let response = bob.get(&format!("/user/sync?{query}")).await.unwrap();
        assert_eq!(response.status(), 400, "{query}: {response}");
        response.expect_error_shape().unwrap();
    }
    let refused = bob.get("/user/sync?preview=21").await.unwrap().expect_error(400, "invalid_field").unwrap();
    assert!(refused.to_string().contains("Must be from 0 to 20."), "{refused}");
}

/// The pages of a first answer go by activity, so a room that moves up meanwhile is on none of them.
#[tokio::test]
async fn room_that_moves_up_between_pages_comes_after_the_last() {
    let (_stack, ann, bob) = three_rooms(Backend::Sqlite).await;
    let page = async |since: &str| {
        let path = format!("/user/sync?limit=2{since}");
        bob.get(&path).await.unwrap().expect(200).unwrap().json().unwrap()
    };
    let mut answer = page("").await;
    let untold = ["lobby", "hall", "attic"].into_iter().find(|room| !names(&answer).contains(room)).unwrap();
    post(&ann, untold, "here I am").await.unwrap();
    while answer["more"] == true {
        answer = page(&format!("&since={}", answer["cursor"].as_str().unwrap())).await;
        assert!(names(&answer).is_empty(), "{answer}");
    }
    let next = page(&format!("&since={}", answer["cursor"].as_str().unwrap())).await;
    assert_eq!(names(&next), [untold]);
}

#[tokio::test]
async fn cursor_ahead_of_a_room_begins_anew() {
    let (mut stack, ann, bob) = three_rooms(Backend::Sqlite).await;
    post(&ann, "hall", "last in hall").await.unwrap();
    // The cursor of a live message names its room.
    let mut device = Device::new(&bob);
    device.open().await.unwrap();
    ann.post("lobby", "last in lobby").await.unwrap();
    device.message("last in lobby").await.unwrap();
    device.close();
    lose_last_message(&mut stack).await;
    let answer = device.sync(50).await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!((&answer["reset"], names(&answer).len()), (&json!("ahead"), 3), "{answer}");
    // The client forgets what it has, and goes on from what it is told.
    let mut device = Device::new(&bob);
    device.apply_answer(&answer, true).unwrap();
    assert_eq!(
        (device.rooms["lobby"], device.texts("lobby"), device.texts("hall")),
        (2, vec![], vec!["last in hall"])
    );
    post(&ann, "lobby", "from here").await.unwrap();
    let answers = device.catch_up(50).await.unwrap();
    assert_eq!((answers[0].get("reset"), device.texts("lobby")), (None, vec!["from here"]));
}

/// 2,500 rooms as they are after the call that created them.
const CREATE_MANY: &str = "INSERT INTO rooms (name, owner_id, is_private, created_on)
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)
    SELECT 'gone-' || n, (SELECT id FROM users WHERE username = 'ann'), FALSE, 0 FROM numbers";

/// What is left of them once bob has left them.
const LEAVE_MANY: [&str; 2] = [
    "INSERT INTO departures (user_id, room_id, version, name)
     SELECT u.id, r.id, u.rooms_version + 1, r.name FROM users u, rooms r
     WHERE u.username = 'bob' AND r.name LIKE 'gone-%'",
    "UPDATE users SET rooms_version = rooms_version + 1 WHERE username = 'bob'",
];

async fn check_many_rooms_gone(backend: Backend) {
    let (stack, ann, bob) = three_rooms(backend).await;
    let mut database = stack.database().await.unwrap();
    database.execute(CREATE_MANY).await.unwrap();
    // Its id is above those of the rooms that are gone, and that of hall is below them.
    bob.create_room("den").await.unwrap();
    let mut device = Device::new(&bob);
    device.catch_up(50).await.unwrap();
    for statement in LEAVE_MANY {
        database.execute(statement).await.unwrap();
    }
    database.close().await.unwrap();
    post(&bob, "den", "in the den").await.unwrap();
    post(&ann, "hall", "in the hall").await.unwrap();
    let mut stream = Device::new(&bob);
    (stream.cursor, stream.rooms) = (device.cursor.clone(), device.rooms.clone());
    let mut expected: Vec<String> = (1..=2_500).map(|number| format!("gone-{number}")).collect();
    expected.sort_unstable();

    let answers = device.catch_up(1).await.unwrap();
    let gone = |answer: &Value| -> Vec<String> {
        answer["gone"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert!(answers.iter().all(|answer| gone(answer).len() <= GONE_AT_MOST), "{} answers", answers.len());
    let named: BTreeSet<String> = answers.iter().flat_map(gone).collect();
    assert!(named.iter().eq(&expected), "{} names", named.len());
    assert_eq!((device.texts("hall"), device.texts("den")), (vec!["in the hall"], vec!["in the den"]));
    assert_eq!(device.catch_up(50).await.unwrap()[0]["gone"], json!([]), "each is named once");

    // A stream names them in events of 50.
    let ready = stream.open().await.unwrap();
    let mut told: Vec<Value> = ready["rooms"].as_array().unwrap().clone();
    while told.len() < 2_500 {
        let rooms = stream.event("rooms").await.unwrap()["rooms"].as_array().unwrap().clone();
        assert!(rooms.len() <= 50, "{} rooms", rooms.len());
        told.extend(rooms);
    }
    let named = told
        .iter()
        .filter(|room| room["gone"] == true)
        .map(|room| room["name"].as_str().unwrap().to_owned());
    assert!(named.collect::<BTreeSet<_>>().iter().eq(&expected));
    for text in ["in the hall", "in the den"] {
        if !stream.messages.iter().any(|(_, said)| said == text) {
            stream.message(text).await.unwrap();
        }
    }
}

#[tokio::test]
async fn many_rooms_that_are_gone_are_named_in_pages() {
    check_many_rooms_gone(Backend::Sqlite).await;
}

#[tokio::test]
async fn many_rooms_that_are_gone_are_named_in_pages_on_postgres() {
    check_many_rooms_gone(Backend::Postgres).await;
}

#[tokio::test]
async fn user_who_catches_up_too_often_is_told_when_to_come_back() {
    // After each of his answers bob waits for seconds, so his calls pile up.
    let stack = Stack::builder().without_limits().gateway("REPLAY_KIB_PER_S", "1").start().await.unwrap();
    let (_stack, ann) = with_lobby(stack).await;
    let bob = ann.register("bob").await.unwrap();
    join(&bob, "lobby").await;
    for _ in 0..10 {
        ann.post("lobby", &"x".repeat(1_000)).await.unwrap();
    }
    post(&ann, "lobby", "last").await.unwrap();
    let calls: FuturesUnordered<_> = (0..200).map(|_| bob.get("/user/sync?preview=20")).collect();
    let refused =
        calls.filter_map(async |response| Some(response.unwrap()).filter(|response| response.status() != 200));
    let refused = std::pin::pin!(refused).next().await.unwrap();
    refused.expect_error(429, "too_many_reads").unwrap();
    ann.get("/user/sync").await.unwrap().expect(200).unwrap();
}

#[tokio::test]
async fn rooms_by_activity_agree_with_a_cold_start() {
    let (_stack, ann) = with_lobby(Stack::builder().without_limits().start().await.unwrap()).await;
    fill(&ann, 3).await.unwrap();
    ann.create_room("hall").await.unwrap();
    post(&ann, "hall", "newest").await.unwrap();
    let cold = ann.get("/user/sync?preview=0").await.unwrap().expect(200).unwrap().json().unwrap();
    let listed = ann.get("/user/rooms").await.unwrap().expect(200).unwrap().json().unwrap();
    let listed = listed.get("data").unwrap_or(&listed);
    let listed: Vec<&str> = listed.as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap()).collect();
    assert_eq!(listed, names(&cold));
    assert_eq!(listed, ["hall", "lobby"]);
}
