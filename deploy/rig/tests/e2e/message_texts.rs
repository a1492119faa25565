//! Texts of messages: none can break or forge an event, and invalid ones are refused.

use std::fmt::Write as _;

use futures_util::stream;
use rig::{ApiClient, Method};
use serde_json::{Value, json};

use crate::fixture::{SOON, lobby, lobby_without_rates};

/// Pieces that have a meaning in JSON, event streams, HTTP chunks, SQL or terminals.
const PIECES: [&str; 24] = [
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\r\n\r\n",
    "data: ",
    "data:",
    "id: 9-9",
    "event: bye",
    "retry: 1",
    ": ",
    ":",
    "🦀",
    "\u{10FFFF}",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{FEFF}",
    "\"",
    "\\",
    "0\r\n\r\n",
    "'; DROP TABLE messages; --",
    "\u{1b}[2J",
    "plain",
];

fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<String> = PIECES.iter().map(|piece| format!("before{piece}after")).collect();
    texts.extend(PIECES.iter().map(|piece| format!("{piece}.")));
    texts.push("x\n\ndata: {\"seq\":1}\nid: 1-1\nevent: bye\n\n".to_owned());
    texts.push("x\r\rid: 7-7\r\revent: reset\rdata: {}\r\r".to_owned());
    texts.push("a".repeat(4_000));
    texts.push("🦀".repeat(4_000));
    texts
}

/// Mixes pieces by a small generator (xorshift64*); the seed determines the result.
fn random_texts(seed: u64, count: usize) -> Vec<String> {
    let mut state = seed;
    let mut below = |bound: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let high = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    };
    let mut text = || {
        let pieces = 1 + below(80);
        (0..pieces).map(|_| PIECES[below(PIECES.len())]).chain(["."]).collect()
    };
    (0..count).map(|_| text()).collect()
}

/// Posts the texts one by one and checks that each is one event, equal to its object in history.
async fn assert_unbroken(client: &ApiClient, texts: &[String]) {
    let mut live = client.stream("lobby").open().await.unwrap();
    let start = live.ready().clone();
    for text in texts {
        client.post("lobby", text).await.unwrap();
    }
    let history = client.whole_history("lobby").await.unwrap();
    let events = live.messages(texts.len(), SOON).await.unwrap();
    // A late client gets the same by replay; below, each of its lines is checked.
    let mut late = client.stream("lobby").after(&start.id).open().await.unwrap();
    assert_eq!(late.messages(texts.len(), SOON).await.unwrap(), events);
    let history = if history.len() == texts.len() {
        history
    } else {
        client.whole_history("lobby").await.unwrap()
    };
    for ((text, event), message) in texts.iter().zip(&events).zip(&history) {
        assert_eq!(&event.json().unwrap(), message);
        assert_eq!(message["message"], text.as_str());
        assert_eq!(event.seq().unwrap(), message["seq"].as_i64().unwrap());
    }
    let limit = texts.len().to_string();
    let bounded = client
        .stream("lobby")
        .after(&start.id)
        .query("limit", &limit)
        .query("wait_s", "5")
        .response()
        .await
        .unwrap();
    assert_only_known_lines(&bounded.text(), texts.len());
}

/// Checks every line by the rules of event streams, where CR alone ends a line too.
fn assert_only_known_lines(raw: &str, messages: usize) {
    let mut data_lines = 0;
    for line in raw.split(['\r', '\n']) {
        let known = line.is_empty()
            || line.starts_with(':')
            || line.strip_prefix("retry: ").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
            || line
                .strip_prefix("id: ")
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
            || matches!(line, "event: ready" | "event: ping" | "event: bye")
            || line.strip_prefix("data: ").is_some_and(|rest| serde_json::from_str::<Value>(rest).is_ok());
        assert!(known, "a line that does not belong into the stream: {line:?}");
        data_lines += usize::from(line.starts_with("data: {\"id\":"));
    }
    assert_eq!(data_lines, messages);
}

#[tokio::test]
async fn hostile_texts_do_not_break_or_forge_events() {
    let (_stack, ann) = lobby_without_rates().await;
    assert_unbroken(&ann, &hostile_texts()).await;
}

#[tokio::test]
async fn random_hostile_texts_do_not_break_or_forge_events() {
    let seed = 0x5EED_0001;
    println!("seed {seed:#x}");
    let (_stack, ann) = lobby_without_rates().await;
    assert_unbroken(&ann, &random_texts(seed, 100)).await;
}

#[tokio::test]
async fn invalid_messages_are_refused() {
    let (_stack, ann) = lobby().await;
    for text in [
        String::new(),
        "a".repeat(4_001),
        "🦀".repeat(4_001 - 100) + &"a".repeat(101),
        "a\0b".to_owned(),
        " ".to_owned(),
        "\r\n\u{2028}".to_owned(),
        "\u{3164}\u{200B}".to_owned(),
    ] {
        let response = ann.try_post("lobby", &text, None).await.unwrap();
        let problem = response.expect_error(400, "invalid_field").unwrap();
        assert_eq!(problem["errors"][0]["field"], "message", "{problem}");
    }
    for body in [
        json!({}),
        json!({"message": null}),
        json!({"message": 1}),
        json!({"message": ["a"]}),
        json!("a"),
        json!(null),
    ] {
        let response = ann.send_json("/chat/lobby/message", &body).await.unwrap();
        assert_eq!(response.status(), 400, "{body}: {response}");
        response.expect_error_shape().unwrap();
    }
    assert_eq!(ann.history("lobby", "").await.unwrap(), Vec::<Value>::new());
}

#[tokio::test]
async fn longest_text_fits_in_its_longest_encoding() {
    let (_stack, ann) = lobby().await;
    let body = format!("{{\"message\":\"{}\"}}", r"\ud83e\udd80".repeat(4_000));
    let request = ann.request(Method::POST, "/chat/lobby/message").header("content-type", "application/json");
    ann.send(request.body(body)).await.unwrap().expect(204).unwrap();
    let compressed = ann.request(Method::POST, "/chat/lobby/message").header("content-type", "application/json");
    let response = ann.send(compressed.header("content-encoding", "gzip").body("x")).await.unwrap();
    response.expect_error(415, "unsupported_encoding").unwrap();
    assert_eq!(response.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn invalid_unicode_and_large_bodies_are_refused() {
    let (_stack, ann) = lobby().await;
    let post = |body: String| {
        let request = ann.request(Method::POST, "/chat/lobby/message");
        request.header("content-type", "application/json").body(body)
    };
    for surrogate in [r"\ud800", r"\udc00\ud800", r"a\uDFFFb", r"\ud83e", r"\ud83e\ud83e"] {
        let mut body = String::new();
        write!(body, "{{\"message\":\"{surrogate}\"}}").unwrap();
        let response = ann.send(post(body)).await.unwrap();
        assert_eq!(response.status(), 400, "{surrogate}: {response}");
        response.expect_error_shape().unwrap();
    }
    let not_utf8 = ann.request(Method::POST, "/chat/lobby/message").header("content-type", "application/json");
    let response = ann.send(not_utf8.body(b"{\"message\":\"\xff\"}".to_vec())).await.unwrap();
    assert_eq!(response.status(), 400, "{response}");

    let huge = json!({"message": "a".repeat(65 * 1024)}).to_string();
    ann.send(post(huge.clone())).await.unwrap().expect_error(413, "payload_too_large").unwrap();
    // The same without a length announced.
    let pieces: Vec<std::io::Result<String>> = vec![Ok(huge.clone()), Ok(huge)];
    let chunked = ann.request(Method::POST, "/chat/lobby/message").header("content-type", "application/json");
    let chunked = chunked.body(reqwest::Body::wrap_stream(stream::iter(pieces)));
    ann.send(chunked).await.unwrap().expect_error(413, "payload_too_large").unwrap();

    assert_eq!(ann.history("lobby", "").await.unwrap(), Vec::<Value>::new());
}
