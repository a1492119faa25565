//! The beginning of a live stream, its pings, and its numbered messages.

use std::time::{Duration, Instant};

use rig::Stack;

use crate::fixture::{SOON, lobby, with_lobby};

/// What an app developer may rely on for the first bytes in a silent room.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Buffers of clients and proxies that hold back less than this must be filled by the first bytes.
const PADDING: usize = 512;

#[tokio::test]
async fn first_bytes_of_a_silent_room_are_sent_at_once() {
    let (_stack, ann) = lobby().await;
    // The first request of a process may be slower than later ones.
    ann.stream("lobby").open().await.unwrap();
    let asked = Instant::now();
    let request = ann.stream("lobby").header("accept-encoding", "gzip, br, zstd, deflate");
    let mut response = request.open_raw().await.unwrap();
    let first = tokio::time::timeout(AT_ONCE, response.chunk()).await.unwrap().unwrap().unwrap();
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());

    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("content-type"), Some("text/event-stream"));
    assert_eq!(header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(header("x-accel-buffering"), Some("no"));
    assert_eq!(header("x-content-type-options"), Some("nosniff"));
    assert_eq!(header("content-encoding"), None);
    assert_eq!(header("content-length"), None);

    assert!(first.len() > PADDING, "only {} bytes", first.len());
    let text = String::from_utf8(first.to_vec()).unwrap();
    let retry = text.lines().find_map(|line| line.strip_prefix("retry: ")).unwrap();
    let retry: u32 = retry.parse().unwrap();
    assert!((2_000..=5_000).contains(&retry), "retry {retry}");
    assert!(text.contains("event: ready\n"), "{text}");
}

#[tokio::test]
async fn ready_names_the_start_position() {
    let (_stack, ann) = lobby().await;
    let fresh = ann.stream("lobby").open().await.unwrap();
    let data = fresh.ready().json().unwrap();
    assert_eq!(fresh.ready().seq().unwrap(), 1);
    assert_eq!((&data["room"], &data["head"]), (&"lobby".into(), &1.into()));
    assert_eq!((&data["recovered"], &data["missed"]), (&false.into(), &0.into()));
    assert_eq!(data["heartbeat_s"], 15);
    assert!(data["server_time"].as_str().unwrap().ends_with('Z'), "{data}");
    crate::fixture::fill(&ann, 5).await.unwrap();

    // A new client starts at the head; a returning one at its own cursor and never at the head.
    let late = ann.stream("lobby").open().await.unwrap();
    assert_eq!((late.ready().seq().unwrap(), &late.ready().json().unwrap()["head"]), (6, &6.into()));
    let cursor = late.ready().id.replace("-6", "-3");
    let mut back = ann.stream("lobby").after(&cursor).open().await.unwrap();
    let data = back.ready().json().unwrap();
    assert_eq!(back.ready().id, cursor);
    assert_eq!((&data["head"], &data["recovered"], &data["missed"]), (&6.into(), &true.into(), &3.into()));
    let ids: Vec<i64> = back.messages(3, SOON).await.unwrap().iter().map(|event| event.seq().unwrap()).collect();
    assert_eq!(ids, [4, 5, 6]);
}

#[tokio::test]
async fn pings_carry_the_last_position() {
    let stack = Stack::builder().gateway("STREAM_HEARTBEAT_S", "1").start().await.unwrap();
    let (_stack, ann) = with_lobby(stack).await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    assert_eq!(stream.ready().json().unwrap()["heartbeat_s"], 1);
    let start = stream.ready().id.clone();
    for _ in 0..2 {
        let ping = stream.next(Duration::from_secs(4)).await.unwrap().unwrap();
        assert_eq!((ping.name.as_str(), &ping.id), ("ping", &start));
        assert!(ping.json().unwrap()["server_time"].is_string());
    }
    ann.post("lobby", "hello").await.unwrap();
    let message = stream.message(SOON).await.unwrap();
    let ping = stream.next(Duration::from_secs(4)).await.unwrap().unwrap();
    assert_eq!((ping.name.as_str(), &ping.id), ("ping", &message.id));
}

#[tokio::test]
async fn clients_see_the_same_events_of_their_room_only() {
    let stack = Stack::builder().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    ann.create_room("other").await.unwrap();
    let bob = ann.moved_to(&stack.gateways[1].url()).unwrap().register("bob").await.unwrap();
    let mut of_ann = ann.stream("lobby").open().await.unwrap();
    let mut of_bob = bob.stream("lobby").open().await.unwrap();
    for (poster, text) in [(&ann, "1"), (&bob, "2"), (&ann, "3")] {
        ann.post("other", "elsewhere").await.unwrap();
        poster.post("lobby", text).await.unwrap();
        let event = of_ann.message(SOON).await.unwrap();
        assert_eq!(event.json().unwrap()["message"], text);
        assert_eq!(of_bob.message(SOON).await.unwrap(), event);
    }
}
