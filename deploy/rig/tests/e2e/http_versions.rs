//! Streams over HTTP/1.0, HTTP/1.1 and HTTP/2 carry the same events.

use futures_util::StreamExt as _;
use rig::{ApiClient, EventStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fixture::{FIRST, SOON, fill, lobby_without_rates};

/// The seqs of the next messages.
async fn seqs(stream: &mut EventStream, count: usize) -> Vec<i64> {
    stream.messages(count, SOON).await.unwrap().iter().map(|event| event.seq().unwrap()).collect()
}

#[tokio::test]
async fn streams_share_one_http2_connection() {
    const STREAMS: usize = 5;
    let (stack, ann) = lobby_without_rates().await;
    let http2 = ApiClient::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    let start = http2.stream("lobby").open().await.unwrap().ready().id.clone();
    // More than fits into the ring of a feed or into one segment: the rest is read from history.
    fill(&ann, 1_500).await.unwrap();
    let before = stack.gateways[0].connections().unwrap();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(http2.stream("lobby").after(&start).open().await.unwrap());
    }
    assert!(stack.gateways[0].connections().unwrap() <= before, "one connection serves them all");
    let all: Vec<i64> = (FIRST..FIRST + 1_500).collect();
    for stream in &mut streams {
        assert_eq!(seqs(stream, 1_500).await, all);
    }
    ann.post("lobby", "hello").await.unwrap();
    for stream in &mut streams {
        assert_eq!(seqs(stream, 1).await, [FIRST + 1_500]);
    }
}

#[tokio::test]
async fn http2_stream_ends_with_its_session() {
    let (stack, ann) = lobby_without_rates().await;
    let http2 = ApiClient::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    let mut stream = http2.stream("lobby").open().await.unwrap();
    ann.logout().await.unwrap();
    let bye = stream.next(SOON).await.unwrap().unwrap();
    assert_eq!((bye.name.as_str(), &bye.json().unwrap()["reason"]), ("bye", &"revoked".into()));
    assert!(stream.next(SOON).await.unwrap().is_none(), "the body ends");
}

/// HTTP/1.0 has no chunks: the body consists of the events until the connection closes.
#[tokio::test]
async fn http_1_0_client_gets_unframed_events() {
    let (stack, ann) = lobby_without_rates().await;
    let mut socket = TcpStream::connect(("127.0.0.1", stack.gateways[0].port())).await.unwrap();
    let request = format!("GET /chat/lobby/message?limit=2 HTTP/1.0\r\nauthorization: {}\r\n\r\n", ann.token());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.windows(12).any(|window| window == b"event: ready") {
        assert_ne!(timeout(SOON, socket.read_buf(&mut response)).await.unwrap().unwrap(), 0);
    }
    fill(&ann, 2).await.unwrap();
    timeout(SOON, socket.read_to_end(&mut response)).await.unwrap().unwrap();
    let response = String::from_utf8(response).unwrap();
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with("retry: ") && !body.contains('\r'), "{body}");
    assert_eq!(body.matches("\nid: ").count(), 4, "ready, two messages, bye: {body}");
    assert!(body.contains("event: bye\n"), "{body}");
}

/// A connection is not used again after a stream, and the response announces that.
#[tokio::test]
async fn stream_announces_close_of_its_connection() {
    let (_stack, ann) = lobby_without_rates().await;
    fill(&ann, 1).await.unwrap();
    for _ in 0..3 {
        let response = ann.stream("lobby").query("limit", "1").query("wait_s", "1").open_raw().await.unwrap();
        assert_eq!(response.headers()["connection"], "close");
        let chunks: Vec<_> = timeout(SOON, response.bytes_stream().collect()).await.unwrap();
        assert!(chunks.iter().all(Result::is_ok), "the body is whole");
        ann.post("lobby", "between streams").await.unwrap();
    }
}
