//! HTTP semantics: HEAD, Allow, ETag, compression, and empty bodies.

use std::io::Read as _;
use std::time::Duration;

use flate2::read::GzDecoder;
use futures_util::stream;
use reqwest::Body;
use rig::{ApiClient, HttpResponse, Method, Stack};
use serde_json::Value;

use crate::fixture::{SOON, fill, lobby, lobby_without_rates, with_lobby};

async fn get_with(client: &ApiClient, path: &str, header: &str, value: &str) -> HttpResponse {
    client.send(client.request(Method::GET, path).header(header, value)).await.unwrap()
}

/// The content of a response in gzip.
fn gunzip(response: &HttpResponse) -> Value {
    assert_eq!(response.header("content-encoding"), Some("gzip"), "{:?}", response.headers().collect::<Vec<_>>());
    let mut text = String::new();
    GzDecoder::new(response.bytes()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn head_of_stream_does_not_join_its_room() {
    let stack = Stack::builder().gateway("STREAMS_PER_USER", "1").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let bob = ann.register("bob").await.unwrap();
    let http2 = ApiClient::over_http2(&stack.gateways[0].url()).unwrap().with_token(bob.token());
    for client in [&bob, &http2] {
        for _ in 0..3 {
            let head = client.call(Method::HEAD, "/chat/lobby/message").await.unwrap();
            assert_eq!((head.status(), head.header("content-type")), (200, Some("text/event-stream")), "{head}");
            assert_eq!(head.text(), "");
        }
        assert_eq!(client.call(Method::HEAD, "/chat/nowhere/message").await.unwrap().status(), 404);
        let head = client.call(Method::HEAD, "/chat/lobby/messagehistory").await.unwrap();
        assert_eq!((head.status(), head.text().as_str()), (200, ""), "{head}");
    }
    let members = ann.get("/chat/lobby/users").await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!(members, serde_json::json!(["ann"]));
    // HEAD does not use up the one stream that bob may have.
    bob.stream("lobby").open().await.unwrap();
}

#[tokio::test]
async fn allow_names_every_method_of_a_path() {
    let (_stack, ann) = lobby().await;
    for (path, methods) in [
        ("/chat/lobby/message", "POST, GET, HEAD, DELETE, OPTIONS"),
        ("/chat/lobby", "POST, GET, HEAD, DELETE, OPTIONS"),
        ("/chat/", "GET, HEAD, OPTIONS"),
        ("/auth/login", "POST, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ] {
        let refused = ann.call(Method::PATCH, path).await.unwrap();
        refused.expect_error(405, "method_not_allowed").unwrap();
        assert_eq!(refused.header("allow"), Some(methods), "{path}");
        let options = ann.call(Method::OPTIONS, path).await.unwrap().expect(204).unwrap();
        assert_eq!(options.header("allow"), Some(methods), "{path}");
    }
}

#[tokio::test]
async fn unchanged_history_page_is_not_modified() {
    let (_stack, ann) = lobby().await;
    fill(&ann, 3).await.unwrap();
    for path in [
        "/chat/lobby/messagehistory",
        "/chat/lobby/messagehistory?limit=1&before=3",
    ] {
        let first = ann.get(path).await.unwrap().expect(200).unwrap();
        let tag = first.header("etag").unwrap().to_owned();
        for known in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = get_with(&ann, path, "if-none-match", &known).await;
            assert_eq!((again.status(), again.text().as_str()), (304, ""), "{again}");
            assert_eq!(again.header("etag"), Some(tag.as_str()));
            assert_eq!(again.header("last-event-id"), first.header("last-event-id"));
        }
        let other = get_with(&ann, path, "if-none-match", "\"other\"").await;
        assert_eq!(other.json().unwrap(), first.json().unwrap());
    }

    // A changed page is sent, and so is the page of a new room of the same name.
    let path = "/chat/lobby/messagehistory";
    let tag = ann.get(path).await.unwrap().header("etag").unwrap().to_owned();
    post_and_wait(&ann, 4).await;
    let newer = get_with(&ann, path, "if-none-match", &tag).await.expect(200).unwrap();
    assert_eq!(newer.json().unwrap().as_array().unwrap().len(), 4);
    ann.call(Method::DELETE, "/chat/lobby").await.unwrap().expect(204).unwrap();
    ann.create_room("lobby").await.unwrap();
    for head in 1..=4 {
        post_and_wait(&ann, head).await;
    }
    let anew = get_with(&ann, path, "if-none-match", newer.header("etag").unwrap()).await;
    assert_eq!(anew.status(), 200, "{anew}");

    // A valid ETag does not replace a valid session.
    let tag = anew.header("etag").unwrap().to_owned();
    ann.logout().await.unwrap();
    let refused = get_with(&ann, path, "if-none-match", &tag).await;
    refused.expect_error_shape().unwrap();
    assert_eq!(refused.status(), 401);
}

/// Posts one message and waits until the room has `head` of them.
async fn post_and_wait(client: &ApiClient, head: usize) {
    client.post("lobby", "one more").await.unwrap();
    rig::eventually(SOON, "the message is in history", async || match client.history("lobby", "").await?.len() {
        found if found == head => Ok(()),
        found => Err(rig::Failure::new(format!("{found} of {head}"))),
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn history_and_lists_are_compressed_but_streams_never() {
    let (_stack, ann) = lobby_without_rates().await;
    fill(&ann, 60).await.unwrap();
    for number in 0..60 {
        ann.create_room(&format!("a-room-with-the-number-{number}")).await.unwrap();
    }
    for path in ["/chat/lobby/messagehistory", "/chat/"] {
        let plain = ann.get(path).await.unwrap().expect(200).unwrap();
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("Accept-Encoding")));
        for _ in 0..2 {
            let packed = get_with(&ann, path, "accept-encoding", "br, gzip").await;
            assert!(packed.bytes().len() < plain.bytes().len() / 3, "{} bytes", packed.bytes().len());
            assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
            assert_eq!(packed.header("etag"), plain.header("etag"));
            assert_eq!(gunzip(&packed), plain.json().unwrap(), "{path}");
        }
        let unwanted = get_with(&ann, path, "accept-encoding", "gzip;q=0").await;
        assert_eq!(unwanted.header("content-encoding"), None);
    }
    // A short body is not compressed.
    let short = get_with(&ann, "/chat/lobby", "accept-encoding", "gzip").await;
    assert_eq!((short.header("content-encoding"), short.status()), (None, 200));

    let request = ann.stream("lobby").header("accept-encoding", "gzip").query("wait_s", "1").query("limit", "1");
    let mut stream = request.open().await.unwrap();
    assert_eq!((stream.header("content-encoding"), stream.header("vary")), (None, None));
    stream.bye(Duration::from_secs(9)).await.unwrap();
}

#[tokio::test]
async fn empty_body_counts_as_none() {
    let (stack, ann) = lobby().await;
    let http2 = ApiClient::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    for (client, room) in [(&ann, "one"), (&http2, "two")] {
        // The body has no chunk over HTTP/1.1, and one empty frame over HTTP/2.
        let nothing = Body::wrap_stream(stream::empty::<std::io::Result<Vec<u8>>>());
        let request = client.request(Method::POST, &format!("/chat/{room}")).body(nothing);
        client.send(request).await.unwrap().expect(201).unwrap();
        let nothing = Body::wrap_stream(stream::empty::<std::io::Result<Vec<u8>>>());
        let request = client.request(Method::POST, "/chat/lobby/message").body(nothing);
        client.send(request).await.unwrap().expect_error(400, "invalid_body").unwrap();
    }
}
