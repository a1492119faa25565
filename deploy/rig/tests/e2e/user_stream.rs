//! The stream of all rooms of a user: rooms come and go, here and on other gateways, and nothing of them is missing or too much.

use std::time::{Duration, Instant};

use rig::{ApiClient, Backend, Failure, Method, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::{SOON, lose_last_message, with_lobby};
use crate::user_device::Device;

/// "Within 1 s on every gateway", with a margin for a machine that is busy with other tests.
const WITHIN: Duration = Duration::from_secs(2);

/// Long enough for something that must not come.
const SILENCE: Duration = Duration::from_millis(700);

async fn join(client: &ApiClient, room: &str) {
    client.call(Method::POST, &format!("/chat/{room}/join")).await.unwrap().expect(204).unwrap();
}

async fn leave(client: &ApiClient, room: &str) {
    client.call(Method::DELETE, &format!("/chat/{room}/message")).await.unwrap().expect(204).unwrap();
}

async fn delete(client: &ApiClient, room: &str) {
    client.call(Method::DELETE, &format!("/chat/{room}")).await.unwrap().expect(204).unwrap();
}

/// Two gateways with `ann`, who owns `lobby`, and `bob` at the first one, and a device of his at the second one.
async fn bob_on_both(backend: Backend) -> (Stack, ApiClient, ApiClient, Device) {
    let stack = Stack::builder().without_limits().backend(backend).gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let bob = ann.register("bob").await.unwrap();
    let device = Device::new(&bob.moved_to(&stack.gateways[1].url()).unwrap());
    (stack, ann, bob, device)
}

async fn check_rooms_come_and_go(backend: Backend) {
    let (_stack, ann, bob, mut device) = bob_on_both(backend).await;
    let ready = device.open().await.unwrap();
    assert_eq!((&ready["recovered"], &ready["rooms"]), (&json!(false), &json!([])));

    let began = Instant::now();
    join(&bob, "lobby").await;
    let lobby = device.room("lobby").await.unwrap();
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    assert_eq!((&lobby["kind"], &lobby["role"], &lobby["unread"]), (&json!("room"), &json!("member"), &json!(0)));
    ann.post("lobby", "welcome").await.unwrap();
    assert_eq!(device.message("welcome").await.unwrap()["name"], "lobby");

    let began = Instant::now();
    bob.create_room("den").await.unwrap();
    assert_eq!(device.room("den").await.unwrap()["role"], "owner");
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    bob.post("den", "mine").await.unwrap();
    device.message("mine").await.unwrap();

    let began = Instant::now();
    leave(&bob, "lobby").await;
    assert_eq!(device.room("lobby").await.unwrap()["gone"], true);
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    ann.post("lobby", "behind his back").await.unwrap();
    device.listen(SILENCE).await.unwrap();
    assert_eq!(device.texts("lobby"), ["welcome"]);

    // Deleted, and created again under the same name: another room.
    let began = Instant::now();
    delete(&bob, "den").await;
    assert_eq!(device.room("den").await.unwrap()["gone"], true);
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    bob.create_room("den").await.unwrap();
    assert_eq!(device.room("den").await.unwrap()["role"], "owner");
    bob.post("den", "anew").await.unwrap();
    device.message("anew").await.unwrap();
    assert_eq!(device.texts("den"), ["mine", "anew"]);

    // What ann deletes is gone for him, too.
    join(&bob, "lobby").await;
    assert_eq!(device.room("lobby").await.unwrap()["role"], "member");
    delete(&ann, "lobby").await;
    assert_eq!(device.room("lobby").await.unwrap()["gone"], true);
    assert_eq!(device.rooms.keys().collect::<Vec<_>>(), ["den"]);
}

#[tokio::test]
async fn rooms_come_and_go_without_reconnect() {
    check_rooms_come_and_go(Backend::Sqlite).await;
}

#[tokio::test]
async fn rooms_come_and_go_without_reconnect_on_postgres() {
    check_rooms_come_and_go(Backend::Postgres).await;
}

async fn check_changes_while_away(backend: Backend) {
    let (stack, ann, bob, mut device) = bob_on_both(backend).await;
    for room in ["hall", "attic"] {
        ann.create_room(room).await.unwrap();
    }
    join(&bob, "lobby").await;
    join(&bob, "hall").await;
    bob.create_room("den").await.unwrap();
    device.open().await.unwrap();
    for room in ["lobby", "hall", "den"] {
        bob.post(room, &format!("before in {room}")).await.unwrap();
        device.message(&format!("before in {room}")).await.unwrap();
    }
    device.close();

    leave(&bob, "lobby").await;
    ann.post("lobby", "behind his back").await.unwrap();
    delete(&bob, "den").await;
    bob.create_room("den").await.unwrap();
    join(&bob, "attic").await;
    ann.post("hall", "missed").await.unwrap();
    let id = ann.post("attic", "in a new room").await.unwrap();
    // What was stored before he comes back was said since he joined.
    eventually(SOON, "the message is stored", async || {
        let newest = ann.history("attic", "?limit=1").await?;
        let is_stored = newest.first().is_some_and(|message| message["id"] == id.as_str());
        is_stored.then_some(()).ok_or_else(|| Failure::new("not yet"))
    })
    .await
    .unwrap();

    device.move_to(&stack.gateways[0].url()).unwrap();
    let ready = device.open().await.unwrap();
    assert_eq!(ready["recovered"], true);
    let told: Vec<(&str, bool)> = ready["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| (room["name"].as_str().unwrap(), room["gone"] == true))
        .collect();
    for expected in [
        ("lobby", true),
        ("den", true),
        ("den", false),
        ("attic", false),
        ("hall", false),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    device.message("missed").await.unwrap();
    ann.post("attic", "and now").await.unwrap();
    bob.post("den", "anew").await.unwrap();
    device.message("and now").await.unwrap();
    if device.texts("den").len() < 2 {
        device.message("anew").await.unwrap();
    }
    assert_eq!(device.texts("lobby"), ["before in lobby"]);
    assert_eq!(device.texts("attic"), ["in a new room", "and now"]);
    assert_eq!(device.rooms.keys().collect::<Vec<_>>(), ["attic", "den", "hall"]);
}

#[tokio::test]
async fn rooms_that_changed_while_away_are_told_at_once() {
    check_changes_while_away(Backend::Sqlite).await;
}

#[tokio::test]
async fn rooms_that_changed_while_away_are_told_at_once_on_postgres() {
    check_changes_while_away(Backend::Postgres).await;
}

#[tokio::test]
async fn room_left_and_joined_again_while_away_begins_anew() {
    let (stack, ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    join(&bob, "lobby").await;
    device.open().await.unwrap();
    ann.post("lobby", "before").await.unwrap();
    device.message("before").await.unwrap();
    device.close();
    leave(&bob, "lobby").await;
    ann.post("lobby", "behind his back").await.unwrap();
    join(&bob, "lobby").await;
    device.move_to(&stack.gateways[0].url()).unwrap();
    let ready = device.open().await.unwrap();
    let rooms = ready["rooms"].as_array().unwrap();
    let is_gone: Vec<bool> = rooms.iter().map(|room| room["gone"] == true).collect();
    assert_eq!(is_gone, [true, false], "its end and its new beginning: {rooms:?}");
    ann.post("lobby", "after").await.unwrap();
    device.message("after").await.unwrap();
}

#[tokio::test]
async fn filters_narrow_rooms_and_kinds() {
    let (_stack, ann, bob, _) = bob_on_both(Backend::Sqlite).await;
    ann.create_room("hall").await.unwrap();
    join(&bob, "lobby").await;
    join(&bob, "hall").await;
    let mut of_hall = Device::new(&bob);
    of_hall.open_with(&[("rooms", "hall,no-such-room")]).await.unwrap();
    let mut messages = bob.user_events().query("types", "message").open().await.unwrap();
    ann.post("lobby", "in the lobby").await.unwrap();
    let carl = ann.register("carl").await.unwrap();
    join(&carl, "hall").await;
    ann.post("hall", "in the hall").await.unwrap();
    of_hall.message("in the hall").await.unwrap();
    assert_eq!(of_hall.messages, [("hall".to_owned(), "in the hall".to_owned())]);
    assert_eq!(of_hall.rooms.keys().collect::<Vec<_>>(), ["hall"]);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = messages.next(SOON).await.unwrap().unwrap();
        match event.name.as_str() {
            "ping" => {}
            name => seen.push((name.to_owned(), event.json().unwrap()["message"].clone())),
        }
    }
    seen.sort_by_key(|(_, text)| text.to_string());
    let expected = ["in the hall", "in the lobby"].map(|text| ("message".to_owned(), json!(text)));
    assert_eq!(seen, expected);
    for query in [
        "types=messages",
        "types=ping",
        "rooms=",
        "rooms=a%20b",
        "limit=0",
        "wait_s=x",
        "client=a%20b",
    ] {
        let response = bob.get(&format!("/user/events?{query}")).await.unwrap();
        assert_eq!(response.status(), 400, "{query}: {response}");
        response.expect_error_shape().unwrap();
    }
}

#[tokio::test]
async fn bounded_user_stream_ends_after_message_count_or_time() {
    let (_stack, ann, bob, _) = bob_on_both(Backend::Sqlite).await;
    join(&bob, "lobby").await;
    let mut by_number = Device::new(&bob);
    by_number.open_with(&[("limit", "2"), ("wait_s", "20")]).await.unwrap();
    for text in ["one", "two", "three"] {
        ann.post("lobby", text).await.unwrap();
    }
    assert_eq!(by_number.bye().await.unwrap(), "bounded");
    assert_eq!(by_number.texts("lobby"), ["one", "two"]);
    // What it did not bring follows the cursor of its end.
    by_number.open().await.unwrap();
    by_number.message("three").await.unwrap();
    let asked = Instant::now();
    let mut by_time = Device::new(&bob);
    by_time.open_with(&[("wait_s", "1")]).await.unwrap();
    assert_eq!(by_time.bye().await.unwrap(), "bounded");
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(6)).contains(&asked.elapsed()),
        "{:?}",
        asked.elapsed()
    );
}

async fn check_read_marks(backend: Backend) {
    let (_stack, ann, bob, mut device) = bob_on_both(backend).await;
    join(&bob, "lobby").await;
    device.open().await.unwrap();
    for number in 0..3 {
        ann.post("lobby", &format!("message {number}")).await.unwrap();
    }
    let seq = device.message("message 2").await.unwrap()["seq"].as_i64().unwrap();
    let mark = async |seq: i64| {
        let request = bob.request(Method::PUT, "/chat/lobby/read").json(&json!({"seq": seq}));
        bob.send(request).await.unwrap().expect(204).unwrap();
    };
    let began = Instant::now();
    mark(seq - 1).await;
    let read = device.event("read").await.unwrap();
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    let expected = json!({"name": "lobby", "read_seq": seq - 1, "counted_upto": seq, "unread": 1, "mentions": 0});
    assert_eq!(read, expected);
    // Back is no way.
    mark(1).await;
    mark(seq).await;
    let read = device.event("read").await.unwrap();
    assert_eq!((&read["read_seq"], &read["unread"]), (&json!(seq), &json!(0)));
}

#[tokio::test]
async fn read_mark_shows_on_another_device() {
    check_read_marks(Backend::Sqlite).await;
}

#[tokio::test]
async fn read_mark_shows_on_another_device_on_postgres() {
    check_read_marks(Backend::Postgres).await;
}

/// An app that goes on from the numbers of a state counts no message twice and leaves none out.
async fn check_counting_from_a_state(backend: Backend) {
    let (_stack, ann, bob, mut device) = bob_on_both(backend).await;
    device.open().await.unwrap();
    let cursor = device.cursor.clone().unwrap();
    device.close();
    join(&bob, "lobby").await;
    // A message of somebody else may be stored before the entry of the joining, which the stream begins at.
    eventually(SOON, "the joining is in the log", async || {
        let page = ann.get("/chat/lobby/messagehistory").await?;
        let is_there = page.header("last-event-id").is_some_and(|id| id.ends_with("-2"));
        is_there.then_some(()).ok_or_else(|| Failure::new("not yet"))
    })
    .await
    .unwrap();
    for number in 0..2 {
        ann.post("lobby", &format!("missed {number}")).await.unwrap();
    }
    let unread = async || {
        let rooms = bob.get("/user/rooms").await?.expect(200)?.json()?;
        rooms["data"][0]["unread"].as_i64().ok_or_else(|| Failure::new("no number"))
    };
    let reaches = async |count| {
        eventually(SOON, "the messages are stored", async || match unread().await? {
            found if found == count => Ok(()),
            found => Err(Failure::new(format!("{found} are unread"))),
        })
        .await
        .unwrap();
    };
    reaches(2).await;

    let mut stream = device.client.user_events().after(&cursor).open().await.unwrap();
    let ready = stream.ready().json().unwrap();
    let state = &ready["rooms"][0];
    let upto = state["counted_upto"].as_i64().or(state["head"].as_i64()).unwrap();
    let mut counted = state["unread"].as_i64().unwrap();
    ann.post("lobby", "live").await.unwrap();
    for _ in 0..3 {
        let message = stream.message(SOON).await.unwrap().json().unwrap();
        counted += i64::from(message["seq"].as_i64().unwrap() > upto);
    }
    assert_eq!(counted, 3, "{state}");
    reaches(3).await;
}

#[tokio::test]
async fn counting_from_a_state_agrees_with_the_server() {
    check_counting_from_a_state(Backend::Sqlite).await;
}

#[tokio::test]
async fn counting_from_a_state_agrees_with_the_server_on_postgres() {
    check_counting_from_a_state(Backend::Postgres).await;
}

/// The reasons of the resets of a stream with this cursor, and the rooms that they name; and whether it was recovered.
async fn resets(client: &ApiClient, cursor: &str) -> (bool, Vec<(String, Vec<Value>)>) {
    let mut stream = client.user_events().after(cursor).query("wait_s", "1").open().await.unwrap();
    let is_recovered = stream.ready().json().unwrap()["recovered"] == true;
    let mut resets = Vec::new();
    while let Some(event) = stream.next(SOON).await.unwrap() {
        if event.name == "reset" {
            let data = event.json().unwrap();
            let rooms = data["rooms"].as_array().unwrap().iter().map(|room| room["name"].clone()).collect();
            resets.push((data["reason"].as_str().unwrap().to_owned(), rooms));
        }
    }
    (is_recovered, resets)
}

#[tokio::test]
async fn unusable_cursor_begins_anew_and_says_why() {
    let (_stack, ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    join(&bob, "lobby").await;
    device.open().await.unwrap();
    ann.post("lobby", "here").await.unwrap();
    device.message("here").await.unwrap();
    let good = device.cursor.clone().unwrap();
    assert_eq!(resets(&bob, &good).await, (true, vec![]));
    let room = vec![json!("lobby")];
    for malformed in ["garbage", "1-1", "!", &good[..good.len() / 2], &"A".repeat(9_000)] {
        let expected = (false, vec![("malformed".to_owned(), room.clone())]);
        assert_eq!(resets(&bob, malformed).await, expected, "{malformed}");
    }
    // Of another installation.
    let (_other, _, carl, mut elsewhere) = bob_on_both(Backend::Sqlite).await;
    join(&carl, "lobby").await;
    elsewhere.open().await.unwrap();
    carl.post("lobby", "there").await.unwrap();
    elsewhere.message("there").await.unwrap();
    let foreign = elsewhere.cursor.clone().unwrap();
    assert_eq!(resets(&bob, &foreign).await, (false, vec![("foreign".to_owned(), room)]));
}

#[tokio::test]
async fn room_that_lost_entries_is_reset_and_others_go_on() {
    let (mut stack, ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    ann.create_room("hall").await.unwrap();
    join(&bob, "lobby").await;
    join(&bob, "hall").await;
    device.open().await.unwrap();
    for room in ["hall", "lobby"] {
        ann.post(room, &format!("last in {room}")).await.unwrap();
        device.message(&format!("last in {room}")).await.unwrap();
    }
    device.close();
    lose_last_message(&mut stack).await;
    let cursor = device.cursor.clone().unwrap();
    assert_eq!(resets(&bob, &cursor).await, (true, vec![("ahead".to_owned(), vec![json!("lobby")])]));
    device.open().await.unwrap();
    ann.post("hall", "and on").await.unwrap();
    ann.post("lobby", "from here").await.unwrap();
    device.message("from here").await.unwrap();
    if device.texts("hall").len() < 2 {
        device.message("and on").await.unwrap();
    }
}

#[tokio::test]
async fn user_stream_resumes_across_restarts_of_gateway_and_worker() {
    let (mut stack, ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    ann.create_room("hall").await.unwrap();
    join(&bob, "lobby").await;
    join(&bob, "hall").await;
    device.open().await.unwrap();
    for round in 0..3 {
        for room in ["lobby", "hall"] {
            ann.post(room, &format!("{room} {round} live")).await.unwrap();
        }
        device.message(&format!("lobby {round} live")).await.unwrap();
        stack.gateways[1].kill().unwrap();
        stack.worker.kill().unwrap();
        for room in ["lobby", "hall"] {
            ann.post(room, &format!("{room} {round} missed")).await.unwrap();
        }
        stack.worker.start().unwrap();
        stack.gateways[1].start().unwrap();
        stack.wait_ready().await.unwrap();
        let ready = device.open().await.unwrap();
        assert_eq!(ready["recovered"], true);
        for room in ["lobby", "hall"] {
            let text = format!("{room} {round} missed");
            if !device.texts(room).contains(&text.as_str()) {
                device.message(&text).await.unwrap();
            }
        }
    }
    for room in ["lobby", "hall"] {
        let expected: Vec<String> =
            (0..3).flat_map(|round| ["live", "missed"].map(|when| format!("{room} {round} {when}"))).collect();
        assert_eq!(device.texts(room), expected);
    }
}

#[tokio::test]
async fn user_stream_ends_with_its_session_on_every_gateway() {
    let (stack, _ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    let mut other_session = Device::new(&bob.login("bob").await.unwrap());
    other_session.open().await.unwrap();
    device.open().await.unwrap();
    let began = Instant::now();
    bob.logout().await.unwrap();
    assert_eq!(device.bye().await.unwrap(), "revoked");
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    let there = bob.moved_to(&stack.gateways[1].url()).unwrap();
    there.get("/user/events").await.unwrap().expect_error(401, "session_revoked").unwrap();
    there.get("/user/sync").await.unwrap().expect_error(401, "session_revoked").unwrap();
    other_session.client.create_room("den").await.unwrap();
    other_session.room("den").await.unwrap();
}

#[tokio::test]
async fn newer_user_stream_of_the_same_client_replaces_the_older_one() {
    let (stack, _ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    device.open_with(&[("client", "phone")]).await.unwrap();
    let mut laptop = Device::new(&bob);
    laptop.open_with(&[("client", "laptop")]).await.unwrap();
    let mut phone = Device::new(&bob.moved_to(&stack.gateways[0].url()).unwrap());
    phone.open_with(&[("client", "phone")]).await.unwrap();
    assert_eq!(device.bye().await.unwrap(), "replaced");
    bob.create_room("den").await.unwrap();
    phone.room("den").await.unwrap();
    laptop.room("den").await.unwrap();
}

#[tokio::test]
async fn change_of_which_nobody_was_told_is_found() {
    let (stack, _ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    join(&bob, "lobby").await;
    device.open().await.unwrap();
    device.room("lobby").await.unwrap();
    // As if what was told through Redis had been lost. A read mark that comes with it does not hide it.
    let mut database = stack.database().await.unwrap();
    database
        .execute("UPDATE members SET notify = 'none', read_seq = read_seq + 1 WHERE username = 'bob'")
        .await
        .unwrap();
    assert_eq!(device.room("lobby").await.unwrap()["notify"]["level"], "none");
}

/// What was said before the user left a direct room is not sent after they left it.
#[tokio::test]
async fn direct_room_left_while_a_device_was_away_is_gone_with_what_it_missed() {
    let (_stack, ann, bob, mut device) = bob_on_both(Backend::Sqlite).await;
    let room = ann.call(Method::PUT, "/direct/bob").await.unwrap().expect(201).unwrap().json().unwrap();
    let room = room["name"].as_str().unwrap();
    device.open().await.unwrap();
    ann.post(room, "first").await.unwrap();
    device.message("first").await.unwrap();
    device.close();
    ann.post(room, "missed").await.unwrap();
    eventually(SOON, "it is stored", async || match bob.history(room, "?limit=1").await?.first() {
        Some(message) if message["message"] == "missed" => Ok(()),
        _ => Err(Failure::new("it is not")),
    })
    .await
    .unwrap();
    leave(&bob, room).await;
    let ready = device.open().await.unwrap();
    assert_eq!(ready["rooms"], json!([{"name": room, "gone": true}]));
    device.listen(SILENCE).await.unwrap();
    assert_eq!(device.texts(room), ["first"]);
    ann.post(room, "again").await.unwrap();
    assert_eq!(device.room(room).await.unwrap()["with"], "ann");
    device.message("again").await.unwrap();
    assert_eq!(device.texts(room), ["first", "again"]);
}
