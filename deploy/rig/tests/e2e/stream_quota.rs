//! A place among a user's streams is a lease that ends with its stream, whichever way that comes.

use std::time::{Duration, Instant};

use rig::{App, Stack, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::{SOON, furnish};

/// The gateway's own deadline for a clean stop, with some air.
const STOP_WITHIN: Duration = Duration::from_secs(12);

#[tokio::test]
async fn streams_of_a_gateway_that_stops_open_at_another_at_once() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (mut stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    for _ in 0..2 {
        let mut streams = [
            ann.stream("lobby").open().await.unwrap(),
            ann.stream("lobby").open().await.unwrap(),
        ];
        assert_eq!(elsewhere.stream("lobby").answer().await.unwrap().status(), 429, "both count");
        stack.gateways[0].service.terminate().unwrap();
        let mut moved = Vec::new();
        for stream in &mut streams {
            assert_eq!(stream.bye(SOON).await.unwrap(), "shutdown");
            moved.push(elsewhere.stream("lobby").open().await.unwrap());
        }
        assert_eq!(stack.gateways[0].service.exit_code(STOP_WITHIN).await.unwrap(), 0);
        drop(moved);
        stack.gateways[0].start().unwrap();
        stack.wait_ready().await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_gateway_holds_no_place_for_long() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (mut stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let _streams = [
        ann.stream("lobby").open().await.unwrap(),
        ann.stream("lobby").open().await.unwrap(),
    ];
    stack.gateways[0].kill().unwrap();
    let opened =
        eventually(SOON, "the dead gateway's places are free", async || elsewhere.stream("lobby").open().await);
    opened.await.unwrap();
}

#[tokio::test]
async fn the_newest_stream_of_a_client_wins_wherever_the_older_one_is() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    ann.create_room("other").await.unwrap();
    let url = stack.gateways[1].url();
    let doors = [
        ann.clone(),
        ann.moved_to(&url).unwrap(),
        App::over_http2(&url).unwrap().with_token(ann.token()),
        App::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token()),
        ann.clone(),
    ];
    let mut elsewhere = ann.stream("other").query("client", "phone").open().await.unwrap();
    let mut older = None;
    for door in doors {
        let newer = door.stream("lobby").query("client", "phone").open().await.unwrap();
        if let Some(mut older) = older.replace(newer) {
            let bye = older.expect("bye", SOON).await.unwrap().json().unwrap();
            assert_eq!(bye["reason"], "replaced");
        }
    }
    ann.post("other", "still here").await.unwrap();
    elsewhere.message(SOON).await.unwrap();
    // Another session's stream of this name is another client's.
    let again = ann.login("ann").await.unwrap();
    assert_eq!(again.stream("lobby").query("client", "phone").answer().await.unwrap().status(), 429);
    ann.post("lobby", "here too").await.unwrap();
    older.unwrap().message(SOON).await.unwrap();
    for bad in ["", "a b", "a.b", &"x".repeat(65)] {
        let refused = ann.stream("lobby").query("client", bad).answer().await.unwrap();
        assert_eq!(refused.status(), 400, "{bad:?}: {refused}");
        refused.expect_error_shape().unwrap();
    }
}

#[tokio::test]
async fn streams_without_a_client_never_replace_each_other() {
    let stack = Stack::builder().gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (_stack, ann) = furnish(stack).await;
    let mut tabs = [
        ann.stream("lobby").open().await.unwrap(),
        ann.stream("lobby").open().await.unwrap(),
    ];
    assert_eq!(ann.stream("lobby").answer().await.unwrap().status(), 429);
    ann.post("lobby", "both are there").await.unwrap();
    for tab in &mut tabs {
        tab.message(SOON).await.unwrap();
    }
}

/// A phone that changed networks: its old connection says nothing more, not even that it received something.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_phone_that_vanished_makes_room_for_itself() {
    /// Accepts no packet at all (`ret 0` of the classic packet filter).
    const DEAF: [socket2::SockFilter; 1] = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    // By then the kernel has not given the connection up by itself.
    const BEFORE_THE_KERNEL: Duration = Duration::from_secs(20);

    let stack = Stack::builder()
        .gateways(2)
        .gateway("STREAMS_PER_USER", "1")
        .gateway("STREAM_HEARTBEAT_S", "1")
        .start()
        .await
        .unwrap();
    let (stack, ann) = furnish(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut ghost = TcpStream::connect(("127.0.0.1", stack.gateways[0].port())).await.unwrap();
    let request = format!("GET /chat/lobby/message HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\r\n", ann.token());
    ghost.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(12).any(|window| window == b"event: ready") {
        assert_ne!(ghost.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert_eq!(elsewhere.stream("lobby").answer().await.unwrap().status(), 429, "it is there");
    socket2::SockRef::from(&ghost).attach_filter(&DEAF).unwrap();
    let vanished = Instant::now();
    let opened = eventually(BEFORE_THE_KERNEL, "the ghost makes room", async || elsewhere.stream("lobby").open().await);
    let _stream = opened.await.unwrap();
    assert!(vanished.elapsed() < BEFORE_THE_KERNEL, "{:?}", vanished.elapsed());
    // One that is there makes no room, however often somebody asks.
    assert_eq!(ann.stream("lobby").answer().await.unwrap().status(), 429);
}
