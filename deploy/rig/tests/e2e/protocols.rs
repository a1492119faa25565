//! A room is followed by whatever HTTP a client speaks; what comes is the same.

use futures_util::StreamExt as _;
use rig::{App, EventStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::{SOON, busy_lobby, fill};

/// The seqs of the next messages.
async fn seqs(stream: &mut EventStream, count: usize) -> Vec<i64> {
    stream.messages(count, SOON).await.unwrap().iter().map(|event| event.seq().unwrap()).collect()
}

#[tokio::test]
async fn many_streams_of_one_http2_connection_resume_and_follow() {
    const STREAMS: usize = 5;
    let (stack, ann) = busy_lobby().await;
    let http2 = App::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    let start = http2.stream("lobby").open().await.unwrap().ready().id.clone();
    // More than fits into a feed's ring or into one piece: the rest is history.
    fill(&ann, 1_500).await.unwrap();
    let before = stack.gateways[0].connections().unwrap();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(http2.stream("lobby").after(&start).open().await.unwrap());
    }
    assert!(stack.gateways[0].connections().unwrap() <= before, "one connection serves them all");
    let all: Vec<i64> = (1..=1_500).collect();
    for stream in &mut streams {
        assert_eq!(seqs(stream, 1_500).await, all);
    }
    ann.post("lobby", "hello").await.unwrap();
    for stream in &mut streams {
        assert_eq!(seqs(stream, 1).await, [1_501]);
    }
}

#[tokio::test]
async fn a_stream_of_http2_ends_with_its_session() {
    let (stack, ann) = busy_lobby().await;
    let http2 = App::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token());
    let mut stream = http2.stream("lobby").open().await.unwrap();
    ann.logout().await.unwrap();
    let bye = stream.next(SOON).await.unwrap().unwrap();
    assert_eq!((bye.name.as_str(), &bye.json().unwrap()["reason"]), ("bye", &"revoked".into()));
    assert!(stream.next(SOON).await.unwrap().is_none(), "the body ends");
}

/// HTTP/1.0 has no chunks: the events stand alone until the connection closes.
#[tokio::test]
async fn a_client_of_http_1_0_gets_the_events_unframed() {
    let (stack, ann) = busy_lobby().await;
    let mut socket = TcpStream::connect(("127.0.0.1", stack.gateways[0].port())).await.unwrap();
    let request = format!("GET /chat/lobby/message?limit=2 HTTP/1.0\r\nauthorization: {}\r\n\r\n", ann.token());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(12).any(|window| window == b"event: ready") {
        assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
    }
    fill(&ann, 2).await.unwrap();
    tokio::time::timeout(SOON, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with("retry: ") && !body.contains('\r'), "{body}");
    assert_eq!(body.matches("\nid: ").count(), 4, "ready, two messages, bye: {body}");
    assert!(body.contains("event: bye\n"), "{body}");
}

/// The connection is not used for anything else behind a stream, and says so.
#[tokio::test]
async fn a_stream_says_that_its_connection_closes_and_its_client_goes_on_with_another() {
    let (_stack, ann) = busy_lobby().await;
    fill(&ann, 1).await.unwrap();
    for _ in 0..3 {
        let response = ann.stream("lobby").query("limit", "1").query("wait_s", "1").open_raw().await.unwrap();
        assert_eq!(response.headers()["connection"], "close");
        let chunks: Vec<_> = response.bytes_stream().collect().await;
        assert!(chunks.iter().all(Result::is_ok), "the body is whole");
        ann.post("lobby", "between streams").await.unwrap();
    }
}
