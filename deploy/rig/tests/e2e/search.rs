//! Search: what is found, by whom, how it is paged, and how bad searches are refused.

use rig::{ApiClient, Backend, Method, Stack, eventually};
use serde_json::{Value, json};

use crate::fixture::{SOON, fill, lobby, with_lobby};

/// The messages that a search finds.
async fn search(client: &ApiClient, query: &str) -> Vec<Value> {
    let found = client.get(&format!("/search/messages?{query}")).await.unwrap().expect(200).unwrap().json().unwrap();
    found["data"].as_array().unwrap().clone()
}

fn texts(found: &[Value]) -> Vec<&str> {
    found.iter().map(|message| message["message"].as_str().unwrap()).collect()
}

/// Waits until a search finds `count` messages.
async fn wait_found(client: &ApiClient, query: &str, count: usize) -> Vec<Value> {
    eventually(SOON, "the messages are found", async || {
        let found = search(client, query).await;
        if found.len() == count {
            Ok(found)
        } else {
            Err(rig::Failure::new(format!("{query} finds {found:?}")))
        }
    })
    .await
    .unwrap()
}

async fn messages_are_found_changed_and_forgotten(backend: Backend) {
    let (_stack, ann) = with_lobby(Stack::builder().backend(backend).start().await.unwrap()).await;
    let said = ["Hello <brave> new World", "hello again", "Crème brûlée"];
    let mut ids = Vec::new();
    for text in said {
        ids.push(ann.post("lobby", text).await.unwrap());
    }
    let found = wait_found(&ann, "q=hello", 2).await;
    assert_eq!(texts(&found), [said[1], said[0]]);
    let (mut first, history) = (found[1].clone(), ann.history("lobby", "").await.unwrap());
    let snippet = first.as_object_mut().unwrap().remove("snippet").unwrap();
    assert_eq!(snippet, "<mark>Hello</mark> &lt;brave&gt; new World");
    assert_eq!(&first, history.iter().find(|message| message["id"] == ids[0]).unwrap());
    for (query, expected) in [
        ("q=HELLO%20world", vec![said[0]]),
        ("q=%22new%20world%22", vec![said[0]]),
        ("q=%22world%20new%22", vec![]),
        ("q=creme%20bru*", vec![said[2]]),
        ("q=hello&limit=1", vec![said[1]]),
        ("q=hello&room=lobby&from=ann", vec![said[1], said[0]]),
        ("q=%2A", vec![]),
    ] {
        assert_eq!(texts(&search(&ann, query).await), expected, "{query}");
    }
    let path = format!("/chat/lobby/message/{}", ids[0]);
    let edited = ann.request(Method::PATCH, &path).json(&json!({"message": "goodbye"}));
    ann.send(edited).await.unwrap().expect(200).unwrap();
    assert_eq!(texts(&search(&ann, "q=hello").await), [said[1]]);
    assert_eq!(texts(&search(&ann, "q=goodbye").await), ["goodbye"]);
    ann.call(Method::DELETE, &path).await.unwrap().expect(204).unwrap();
    assert!(search(&ann, "q=goodbye").await.is_empty());
}

#[tokio::test]
async fn messages_are_found_changed_and_forgotten_on_sqlite() {
    messages_are_found_changed_and_forgotten(Backend::Sqlite).await;
}

#[tokio::test]
async fn messages_are_found_changed_and_forgotten_on_postgres() {
    messages_are_found_changed_and_forgotten(Backend::Postgres).await;
}

#[tokio::test]
async fn links_lead_through_all_that_is_found() {
    let (_stack, ann) = with_lobby(Stack::builder().without_rates().start().await.unwrap()).await;
    fill(&ann, 150).await.unwrap();
    let mut path = Some("/search/messages?q=%22message%201*%22&room=lobby&from=ann&limit=20".to_owned());
    let mut found = Vec::new();
    while let Some(next) = path {
        let page = ann.get(&next).await.unwrap().expect(200).unwrap();
        let messages = page.json().unwrap()["data"].as_array().unwrap().clone();
        assert!(messages.len() <= 20);
        found.extend(messages);
        path = page.header("link").map(|link| link.split_once('>').unwrap().0.trim_start_matches('<').to_owned());
    }
    // message 1, those from 10 to 19, and those from 100 to 149.
    assert_eq!(found.len(), 61);
    assert!(found.is_sorted_by(|newer, older| newer["seq"].as_i64() > older["seq"].as_i64()));
}

#[tokio::test]
async fn only_what_the_caller_may_read_is_found() {
    let (stack, ann) = lobby().await;
    ann.send_json("/chat/secret", &json!({"private": true})).await.unwrap().expect(201).unwrap();
    for room in ["lobby", "secret"] {
        ann.post(room, &format!("word of {room}")).await.unwrap();
    }
    wait_found(&ann, "q=word", 2).await;
    let bob = stack.client().unwrap().register("bob").await.unwrap();
    assert!(search(&bob, "q=word").await.is_empty());
    assert_eq!(texts(&search(&bob, "q=word&room=lobby").await), ["word of lobby"]);
    let hidden = bob.get("/search/messages?q=word&room=secret").await.unwrap();
    hidden.expect_error(404, "room_not_found").unwrap();
    bob.post("lobby", "word of bob").await.unwrap();
    let found = wait_found(&bob, "q=word", 2).await;
    assert_eq!(texts(&found), ["word of bob", "word of lobby"]);
    assert_eq!(texts(&search(&ann, "q=word&from=bob").await), ["word of bob"]);
    let public_id = found[0]["public_id"].as_str().unwrap();
    assert_eq!(texts(&search(&ann, &format!("q=word&from={public_id}")).await), ["word of bob"]);
}

#[tokio::test]
async fn bad_searches_are_refused_by_the_parameter() {
    let (_stack, ann) = lobby().await;
    let (long, longest) = ("x".repeat(201), "%C3%A9".repeat(200));
    let (long_q, longest_q) = (format!("q={long}"), format!("q={longest}"));
    let long_from = format!("q=x&from={}", &long[..65]);
    for (query, field, code) in [
        ("room=lobby", "q", "invalid"),
        ("q=", "q", "too_short"),
        (long_q.as_str(), "q", "too_long"),
        ("q=x&from=", "from", "too_short"),
        (long_from.as_str(), "from", "too_long"),
        ("q=x&limit=0", "limit", "out_of_range"),
        ("q=x&limit=101", "limit", "out_of_range"),
        ("q=x&before=-1", "before", "out_of_range"),
        ("q=x&before=abc", "before", "invalid"),
    ] {
        let refused = ann.get(&format!("/search/messages?{query}")).await.unwrap();
        let problem = refused.expect_error(400, "invalid_field").unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(
            (&problem["errors"][0]["field"], &problem["errors"][0]["code"]),
            (&json!(field), &json!(code)),
            "{query}"
        );
    }
    for query in [
        longest_q.as_str(),
        "q=%00",
        "q=NEAR(",
        "q=a:b",
        "q=x&before=0",
        "q=x&before=9223372036854775807",
    ] {
        assert!(search(&ann, query).await.is_empty(), "{query}");
    }
    for (query, code) in [
        ("q=x&room=nowhere", "room_not_found"),
        ("q=x&room=%00", "room_not_found"),
        ("q=x&from=nobody", "user_not_found"),
        ("q=x&from=%00", "user_not_found"),
    ] {
        let refused = ann.get(&format!("/search/messages?{query}")).await.unwrap();
        refused.expect_error(404, code).unwrap();
    }
    let stranger = ann.with_token("");
    stranger.get("/search/messages?q=x").await.unwrap().expect_error(401, "unauthorized").unwrap();
}
