//! Edits, deletions, reactions, replies and mentions: what callers are answered, and what history and streams show after it.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::try_join_all;
use rig::{ApiClient, HttpResponse, Method, Result, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::{SOON, lobby, lobby_without_rates, with_lobby};

/// What no message but the deleted one has.
const CANARY: &str = "canary-7b1f";

/// The word of it that the index of words has, and no other message.
const INDEXED_CANARY: &str = "canary";

fn path(id: &str) -> String {
    format!("/chat/lobby/message/{id}")
}

async fn edit(client: &ApiClient, id: &str, text: &str) -> Result<HttpResponse> {
    client.send(client.request(Method::PATCH, &path(id)).json(&json!({"message": text}))).await
}

async fn delete(client: &ApiClient, id: &str) -> Result<HttpResponse> {
    client.call(Method::DELETE, &path(id)).await
}

async fn react(client: &ApiClient, method: Method, id: &str, emoji: &str) -> Result<HttpResponse> {
    // The client escapes what is not ASCII.
    client.call(method, &format!("{}/reactions/{}", path(id), emoji.replace(' ', "%20"))).await
}

async fn post(client: &ApiClient, body: &Value) -> HttpResponse {
    client.send_json("/chat/lobby/message", body).await.unwrap()
}

/// The message as `GET` answers it.
async fn get(client: &ApiClient, id: &str) -> Value {
    client.get(&path(id)).await.unwrap().expect(200).unwrap().json().unwrap()
}

#[tokio::test]
async fn edit_is_shown_in_history_and_on_streams() {
    let (_stack, ann) = lobby().await;
    let mut live = ann.stream("lobby").open().await.unwrap();
    let start = live.ready().id.clone();
    let id = ann.post("lobby", "first").await.unwrap();
    let edited = edit(&ann, &id, "second").await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!((&edited["id"], &edited["message"], &edited["seq"]), (&json!(id), &json!("second"), &json!(2)));
    assert!(edited["edited_on"].is_string());
    assert_eq!(live.message(SOON).await.unwrap().json().unwrap()["message"], "first");
    let event = live.expect("edit", SOON).await.unwrap();
    let data = event.json().unwrap();
    assert_eq!((event.seq().unwrap(), &data["seq"], &data["target_seq"]), (3, &json!(3), &json!(2)));
    assert_eq!(
        (&data["target"], &data["message"], &data["username"]),
        (&json!(id), &json!("second"), &json!("ann"))
    );
    assert_eq!(data["edited_on"], edited["edited_on"]);
    assert_eq!(ann.history("lobby", "").await.unwrap(), std::slice::from_ref(&edited));
    // Replayed, the message has today's text, and the edit follows it.
    let mut replayed = ann.stream("lobby").after(&start).open().await.unwrap();
    assert_eq!(replayed.message(SOON).await.unwrap().json().unwrap(), edited);
    assert_eq!(replayed.expect("edit", SOON).await.unwrap().json().unwrap(), data);
    // The same text again changes nothing.
    edit(&ann, &id, "second").await.unwrap().expect(200).unwrap();
    ann.post("lobby", "next").await.unwrap();
    assert_eq!(live.message(SOON).await.unwrap().seq().unwrap(), 4);
}

#[tokio::test]
async fn deleted_message_is_a_tombstone_everywhere() {
    let (stack, ann) = with_lobby(Stack::builder().gateways(2).start().await.unwrap()).await;
    let other = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut live = other.stream("lobby").open().await.unwrap();
    let start = live.ready().id.clone();
    let id = ann.post("lobby", CANARY).await.unwrap();
    edit(&ann, &id, &format!("{CANARY} edited")).await.unwrap().expect(200).unwrap();
    react(&ann, Method::PUT, &id, "👍").await.unwrap().expect(204).unwrap();
    live.message(SOON).await.unwrap();
    live.expect("edit", SOON).await.unwrap();
    live.expect("reaction", SOON).await.unwrap();
    // Both gateways have pages with it.
    for client in [&ann, &other] {
        assert_eq!(client.history("lobby", "").await.unwrap()[0]["reactions"], json!([{"emoji": "👍", "count": 1}]));
    }
    for _ in 0..2 {
        delete(&other, &id).await.unwrap().expect(204).unwrap();
    }
    let event = live.expect("delete", SOON).await.unwrap().json().unwrap();
    assert_eq!((&event["target"], &event["target_seq"], &event["seq"]), (&json!(id), &json!(2), &json!(5)));
    for client in [&ann, &other] {
        let shown = client.history("lobby", "").await.unwrap().remove(0);
        assert_eq!((&shown["deleted"], &shown["message"]), (&json!(true), &json!("")), "{shown}");
        assert!(shown.get("reactions").is_none() && shown.get("edited_on").is_none(), "{shown}");
        let mut replayed = client.stream("lobby").after(&start).open().await.unwrap();
        assert_eq!(replayed.message(SOON).await.unwrap().json().unwrap(), shown);
        assert_eq!(replayed.expect("edit", SOON).await.unwrap().json().unwrap()["message"], "");
        replayed.expect("reaction", SOON).await.unwrap();
        replayed.expect("delete", SOON).await.unwrap();
    }
    edit(&ann, &id, "again").await.unwrap().expect_error(409, "deleted").unwrap();
    react(&ann, Method::PUT, &id, "👍").await.unwrap().expect_error(409, "deleted").unwrap();
    post(&ann, &json!({"message": "x", "reply_to": id}))
        .await
        .expect_error(422, "no_such_reply")
        .unwrap();
}

#[tokio::test]
async fn deleted_text_is_in_no_file_and_no_log() {
    let stack = Stack::builder().without_rates().gateway("ROOMCAST_LOG", "trace").worker("ROOMCAST_LOG", "trace");
    let (mut stack, ann) = with_lobby(stack.start().await.unwrap()).await;
    let id = ann.post("lobby", CANARY).await.unwrap();
    edit(&ann, &id, &format!("{CANARY} edited")).await.unwrap().expect(200).unwrap();
    index_lobby(&stack, &ann).await;
    assert!(is_in_a_file(&stack, INDEXED_CANARY));
    delete(&ann, &id).await.unwrap().expect(204).unwrap();
    let trimmed = eventually(SOON, "the accept log is trimmed", async || {
        let entries = stack.redis.entries_with(CANARY).await?;
        if entries == 0 {
            Ok(())
        } else {
            Err(rig::Failure::new(format!("{entries} entries have the text")))
        }
    });
    trimmed.await.unwrap();
    stack.gateways[0].process.stop(SOON).await.unwrap();
    stack.worker.process.stop(SOON).await.unwrap();
    for log in [stack.gateways[0].process.log(), stack.worker.process.log()] {
        assert!(log.contains("DEBUG") && !log.contains(CANARY));
    }
    assert!(!is_in_a_file(&stack, CANARY) && !is_in_a_file(&stack, INDEXED_CANARY));
}

/// Whether some file of the database has `text`.
fn is_in_a_file(stack: &Stack, text: &str) -> bool {
    let files = stack.database_files().unwrap();
    assert!(!files.is_empty());
    let has_text = |file: &PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files.iter().any(has_text)
}

/// Posts messages to `lobby` until the worker has indexed the ones before them for searches.
async fn index_lobby(stack: &Stack, client: &ApiClient) {
    let mut database = stack.database().await.unwrap();
    let indexed = database.count_indexed().await.unwrap();
    for number in 0..64 {
        client.post("lobby", &format!("filler {number}")).await.unwrap();
    }
    eventually(SOON, "the messages are indexed", async || {
        let now = database.count_indexed().await?;
        if now > indexed {
            Ok(())
        } else {
            Err(rig::Failure::new(format!("{now} entries are indexed")))
        }
    })
    .await
    .unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn reactions_count_users_and_converge_when_repeated() {
    let (stack, ann) = lobby().await;
    let bob = stack.client().unwrap().register("bob").await.unwrap();
    let mut live = ann.stream("lobby").open().await.unwrap();
    let id = ann.post("lobby", "hello").await.unwrap();
    live.message(SOON).await.unwrap();
    for _ in 0..2 {
        for client in [&ann, &bob] {
            react(client, Method::PUT, &id, "❤️").await.unwrap().expect(204).unwrap();
        }
    }
    react(&ann, Method::PUT, &id, "🎉").await.unwrap().expect(204).unwrap();
    for _ in 0..2 {
        react(&ann, Method::DELETE, &id, "❤️").await.unwrap().expect(204).unwrap();
    }
    assert_eq!(get(&ann, &id).await["reactions"], json!([{"emoji": "❤️", "count": 1}, {"emoji": "🎉", "count": 1}]));
    let mut seen = Vec::new();
    for _ in 0..4 {
        let data = live.expect("reaction", SOON).await.unwrap().json().unwrap();
        seen.push((data["username"].clone(), data["emoji"].clone(), data["on"].clone(), data["count"].clone()));
    }
    let event = |user: &str, emoji: &str, on: bool, count: u32| (json!(user), json!(emoji), json!(on), json!(count));
    let expected = [
        event("ann", "❤️", true, 1),
        event("bob", "❤️", true, 2),
        event("ann", "🎉", true, 1),
        event("ann", "❤️", false, 1),
    ];
    assert_eq!(seen, expected);
    for bad in ["x", "ab cd", "<b>"] {
        react(&ann, Method::PUT, &id, bad).await.unwrap().expect_error(400, "invalid_field").unwrap();
    }
    // She has joined the room by it.
    assert_eq!(bob.get("/chat/lobby/users").await.unwrap().json().unwrap(), json!(["ann", "bob"]));
}

#[tokio::test]
async fn only_those_who_may_change_a_message() {
    let (stack, ann) = lobby().await;
    let (bob, eve) = (stack.client().unwrap().register("bob").await, stack.client().unwrap().register("eve").await);
    let (bob, eve) = (bob.unwrap(), eve.unwrap());
    let of_bob = bob.post("lobby", "hello").await.unwrap();
    for client in [&ann, &eve] {
        edit(client, &of_bob, "mine").await.unwrap().expect_error(403, "forbidden").unwrap();
    }
    delete(&eve, &of_bob).await.unwrap().expect_error(403, "forbidden").unwrap();
    // Ann owns the room.
    delete(&ann, &of_bob).await.unwrap().expect(204).unwrap();
    let unknown = "01a20ab1-49a0-708d-8bf6-055e5f5df19a";
    for response in [
        edit(&ann, unknown, "x").await.unwrap(),
        delete(&ann, unknown).await.unwrap(),
        react(&ann, Method::PUT, unknown, "👍").await.unwrap(),
        ann.get(&path(unknown)).await.unwrap(),
        ann.get(&format!("{}/replies", path(unknown))).await.unwrap(),
    ] {
        response.expect_error(404, "message_not_found").unwrap();
    }
    // A message of another room is not in this one.
    ann.create_room("other").await.unwrap();
    let elsewhere = ann.post("other", "x").await.unwrap();
    delete(&ann, &elsewhere).await.unwrap().expect_error(404, "message_not_found").unwrap();
    let body = json!({"private": true});
    ann.send_json("/chat/secret", &body).await.unwrap().expect(201).unwrap();
    let hidden = ann.post("secret", "x").await.unwrap();
    let there = format!("/chat/secret/message/{hidden}");
    for method in [Method::GET, Method::DELETE] {
        eve.call(method, &there).await.unwrap().expect_error(404, "room_not_found").unwrap();
    }
    let put = eve.call(Method::PUT, &format!("{there}/reactions/%F0%9F%91%8D")).await.unwrap();
    put.expect_error(404, "room_not_found").unwrap();
}

#[tokio::test]
async fn replies_and_mentions_are_kept_with_the_message() {
    let (stack, ann) = lobby_without_rates().await;
    stack.client().unwrap().register("bob").await.unwrap();
    let id = ann.post("lobby", "question").await.unwrap();
    let body = json!({"message": "answer", "reply_to": id, "mentions": ["bob", "ann", "bob"]});
    let mut replies = Vec::new();
    for _ in 0..3 {
        let response = post(&ann, &body).await.expect(204).unwrap();
        replies.push(response.header("message-id").unwrap().to_owned());
    }
    let shown = get(&ann, &replies[0]).await;
    assert_eq!((&shown["reply_to"], &shown["mentions"]), (&json!(id), &json!(["bob", "ann"])));
    let page = ann.get(&format!("{}/replies?limit=2", path(&id))).await.unwrap().expect(200).unwrap();
    let ids = |page: &HttpResponse| -> Vec<String> {
        let page = page.json().unwrap();
        page.as_array().unwrap().iter().map(|reply| reply["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&page), replies[..2]);
    let link = page.header("link").unwrap();
    let next = link.trim_start_matches('<').split_once('>').unwrap().0;
    assert_eq!(ids(&ann.get(next).await.unwrap()), replies[2..]);
    let unknown = json!({"message": "x", "reply_to": "01a20ab1-49a0-708d-8bf6-055e5f5df19a"});
    post(&ann, &unknown).await.expect_error(422, "no_such_reply").unwrap();
    post(&ann, &json!({"message": "x", "mentions": ["nobody"]}))
        .await
        .expect_error(422, "no_such_user")
        .unwrap();
    post(&ann, &json!({"message": "x", "reply_to": "7"}))
        .await
        .expect_error(400, "invalid_field")
        .unwrap();
    let many = vec!["ann"; 51];
    post(&ann, &json!({"message": "x", "mentions": many}))
        .await
        .expect_error(400, "invalid_field")
        .unwrap();
    // A reply to what was accepted a moment ago and is not stored yet is one.
    for number in 0..20 {
        let id = ann.post("lobby", &format!("question {number}")).await.unwrap();
        post(&ann, &json!({"message": "answer", "reply_to": id})).await.expect(204).unwrap();
    }
}

#[tokio::test]
async fn history_pages_around_a_message_and_past_changes() {
    let (_stack, ann) = lobby().await;
    for number in 0..6 {
        let id = ann.post("lobby", &format!("message {number}")).await.unwrap();
        react(&ann, Method::PUT, &id, "👍").await.unwrap().expect(204).unwrap();
    }
    let seqs = async |query: &str| -> Vec<i64> {
        let page = ann.history("lobby", query).await.unwrap();
        page.iter().map(|message| message["seq"].as_i64().unwrap()).collect()
    };
    assert_eq!(seqs("").await, [12, 10, 8, 6, 4, 2]);
    assert_eq!(seqs("?limit=2&before=10").await, [8, 6]);
    assert_eq!(seqs("?limit=4&around=6").await, [8, 6, 4, 2]);
    assert_eq!(seqs("?limit=4&around=6&after=10").await, [8, 6, 4, 2]);
    let response = ann.get("/chat/lobby/messagehistory?limit=2").await.unwrap();
    assert!(response.header("last-event-id").unwrap().ends_with("-13"), "the head is that of the log");
}

#[tokio::test]
async fn unknown_outcome_of_a_change_converges_when_repeated() {
    let (mut stack, ann) = lobby().await;
    let id = ann.post("lobby", "first").await.unwrap();
    eventually(SOON, "it is stored", async || ann.get(&path(&id)).await?.expect(200)).await.unwrap();
    stack.worker.kill().unwrap();
    let (edited, reacted) = tokio::join!(edit(&ann, &id, "second"), react(&ann, Method::PUT, &id, "👍"));
    edited.unwrap().expect_error(503, "outcome_unknown").unwrap();
    reacted.unwrap().expect_error(503, "outcome_unknown").unwrap();
    stack.worker.start().unwrap();
    let repeat = eventually(SOON, "the changes are made", async || {
        react(&ann, Method::PUT, &id, "👍").await?.expect(204)?;
        edit(&ann, &id, "second").await?.expect(200)
    });
    let shown = repeat.await.unwrap().json().unwrap();
    assert_eq!((&shown["message"], &shown["reactions"]), (&json!("second"), &json!([{"emoji": "👍", "count": 1}])));
    // Each of them happened once.
    let mut stream = ann.stream("lobby").after(&format!("{}-2", epoch(&ann).await)).open().await.unwrap();
    let mut kinds = vec![
        stream.next(SOON).await.unwrap().unwrap().name,
        stream.next(SOON).await.unwrap().unwrap().name,
    ];
    kinds.sort();
    assert_eq!(kinds, ["edit", "reaction"]);
    ann.post("lobby", "next").await.unwrap();
    assert_eq!(stream.message(SOON).await.unwrap().seq().unwrap(), 5);
}

async fn epoch(client: &ApiClient) -> String {
    let response = client.get("/chat/lobby/messagehistory").await.unwrap();
    response.header("last-event-id").unwrap().rsplit_once('-').unwrap().0.to_owned()
}

#[tokio::test]
async fn edit_window_closes_for_the_author() {
    let stack = Stack::builder().gateway("EDIT_WINDOW_MIN", "1").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let id = ann.post("lobby", "first").await.unwrap();
    edit(&ann, &id, "second").await.unwrap().expect(200).unwrap();
    let mut database = stack.database().await.unwrap();
    database.age_messages(Duration::from_mins(2)).await.unwrap();
    edit(&ann, &id, "third").await.unwrap().expect_error(422, "edit_window_closed").unwrap();
    delete(&ann, &id).await.unwrap().expect(204).unwrap();
}

#[tokio::test]
async fn concurrent_changes_leave_the_same_state_everywhere() {
    const USERS: usize = 6;
    let (stack, ann) = with_lobby(Stack::builder().without_rates().gateways(2).start().await.unwrap()).await;
    let id = ann.post("lobby", "first").await.unwrap();
    let mut clients = Vec::new();
    for number in 0..USERS {
        let client = stack.client().unwrap().register(&format!("user{number}")).await.unwrap();
        clients.push(client.moved_to(&stack.gateways[number % 2].url()).unwrap());
    }
    let (clients, id) = (&clients, &id);
    let changes = (0..60).map(|number| async move {
        let method = if number % 3 == 2 { Method::DELETE } else { Method::PUT };
        react(&clients[number % USERS], method, id, ["👍", "🎉"][number / USERS % 2]).await?.expect(204)
    });
    try_join_all(changes).await.unwrap();
    let mut counts = std::collections::BTreeMap::new();
    let mut stream = ann.stream("lobby").after(&format!("{}-2", epoch(&ann).await)).open().await.unwrap();
    let head = stream.ready().json().unwrap()["head"].as_i64().unwrap();
    loop {
        // Two of the users take back alone what they never added: that they joined may be the last entry.
        let event = stream.next(SOON).await.unwrap().unwrap();
        if event.name == "reaction" {
            let data = event.json().unwrap();
            counts.insert(data["emoji"].as_str().unwrap().to_owned(), data["count"].as_i64().unwrap());
        }
        if event.seq().unwrap() == head {
            break;
        }
    }
    counts.retain(|_, count| *count > 0);
    let shown = get(&ann, id).await;
    let shown: std::collections::BTreeMap<String, i64> = shown["reactions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reaction| (reaction["emoji"].as_str().unwrap().to_owned(), reaction["count"].as_i64().unwrap()))
        .collect();
    assert_eq!(shown, counts);
}

#[tokio::test]
async fn late_repetition_of_a_keyed_change_changes_nothing() {
    let (stack, ann) = with_lobby(Stack::builder().without_rates().gateways(2).start().await.unwrap()).await;
    let other = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let id = ann.post("lobby", "first").await.unwrap();
    let keyed = async |client: &ApiClient, method: Method, path: &str, text: &str, key: &str| {
        let request = client.request(method, path).header("idempotency-key", key).json(&json!({"message": text}));
        let response = client.send(request).await.unwrap();
        assert!(matches!(response.status(), 200 | 204), "{response}");
    };
    let (message, reaction) = (path(&id), format!("{}/reactions/👍", path(&id)));
    for (method, path, text, key) in [
        (Method::PATCH, &message, "second", "1"),
        (Method::PATCH, &message, "third", "2"),
        (Method::PUT, &reaction, "", "3"),
        (Method::DELETE, &reaction, "", "4"),
        // The same tries again, through another gateway.
        (Method::PATCH, &message, "second", "1"),
        (Method::PUT, &reaction, "", "3"),
    ] {
        keyed(if key == "1" { &ann } else { &other }, method, path, text, key).await;
    }
    let shown = get(&other, &id).await;
    assert!(shown["message"] == "third" && shown.get("reactions").is_none(), "{shown}");
    // The key is that of a change of this message: of another one it is another change.
    let another = ann.post("lobby", "first").await.unwrap();
    keyed(&ann, Method::PATCH, &path(&another), "second", "1").await;
    assert_eq!(get(&ann, &another).await["message"], "second");
    // So is another change of the same one.
    keyed(&ann, Method::PATCH, &path(&another), "third", "1").await;
    assert_eq!(get(&ann, &another).await["message"], "third");
    keyed(&ann, Method::DELETE, &path(&another), "", "1").await;
    assert_eq!(get(&ann, &another).await["deleted"], true);
}
