//! The quota of a user's streams: each stream holds a lease that ends with it, however it ends.

use std::time::{Duration, Instant};

use rig::{ApiClient, Stack, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fixture::{SOON, with_lobby};

/// The gateway's own deadline for a clean stop, with a margin.
const STOP_WITHIN: Duration = Duration::from_secs(12);

#[tokio::test]
async fn streams_of_stopped_gateway_reopen_elsewhere_at_once() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (mut stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    for _ in 0..2 {
        let mut streams = [
            ann.stream("lobby").open().await.unwrap(),
            ann.stream("lobby").open().await.unwrap(),
        ];
        assert_eq!(elsewhere.stream("lobby").response().await.unwrap().status(), 429, "both count");
        stack.gateways[0].process.terminate().unwrap();
        let mut moved = Vec::new();
        for stream in &mut streams {
            assert_eq!(stream.bye(SOON).await.unwrap(), "shutdown");
            moved.push(elsewhere.stream("lobby").open().await.unwrap());
        }
        assert_eq!(stack.gateways[0].process.exit_code(STOP_WITHIN).await.unwrap(), 0);
        drop(moved);
        stack.gateways[0].start().unwrap();
        stack.wait_ready().await.unwrap();
    }
}

#[tokio::test]
async fn leases_of_killed_gateway_expire() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (mut stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let _streams = [
        ann.stream("lobby").open().await.unwrap(),
        ann.stream("lobby").open().await.unwrap(),
    ];
    stack.gateways[0].kill().unwrap();
    let opened = eventually(SOON, "the leases of the killed gateway have expired", async || {
        elsewhere.stream("lobby").open().await
    });
    opened.await.unwrap();
}

#[tokio::test]
async fn newest_stream_of_a_client_replaces_older_ones() {
    let stack = Stack::builder().gateways(2).gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    ann.create_room("other").await.unwrap();
    let url = stack.gateways[1].url();
    let clients = [
        ann.clone(),
        ann.moved_to(&url).unwrap(),
        ApiClient::over_http2(&url).unwrap().with_token(ann.token()),
        ApiClient::over_http2(&stack.gateways[0].url()).unwrap().with_token(ann.token()),
        ann.clone(),
    ];
    let mut elsewhere = ann.stream("other").query("client", "device").open().await.unwrap();
    let mut older = None;
    for client in clients {
        let newer = client.stream("lobby").query("client", "device").open().await.unwrap();
        if let Some(mut older) = older.replace(newer) {
            let bye = older.expect("bye", SOON).await.unwrap().json().unwrap();
            assert_eq!(bye["reason"], "replaced");
        }
    }
    ann.post("other", "still here").await.unwrap();
    elsewhere.message(SOON).await.unwrap();
    // A stream of another session with the same client id is another client's.
    let again = ann.login("ann").await.unwrap();
    assert_eq!(again.stream("lobby").query("client", "device").response().await.unwrap().status(), 429);
    ann.post("lobby", "here too").await.unwrap();
    older.unwrap().message(SOON).await.unwrap();
    for bad in ["", "a b", "a.b", &"x".repeat(65)] {
        let refused = ann.stream("lobby").query("client", bad).response().await.unwrap();
        assert_eq!(refused.status(), 400, "{bad:?}: {refused}");
        refused.expect_error_shape().unwrap();
    }
}

#[tokio::test]
async fn streams_without_client_id_never_replace_each_other() {
    let stack = Stack::builder().gateway("STREAMS_PER_USER", "2").start().await.unwrap();
    let (_stack, ann) = with_lobby(stack).await;
    let mut tabs = [
        ann.stream("lobby").open().await.unwrap(),
        ann.stream("lobby").open().await.unwrap(),
    ];
    assert_eq!(ann.stream("lobby").response().await.unwrap().status(), 429);
    ann.post("lobby", "both are there").await.unwrap();
    for tab in &mut tabs {
        tab.message(SOON).await.unwrap();
    }
}

/// A client that changed networks: its old connection sends nothing more, not even acknowledgements.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn vanished_client_frees_its_lease() {
    /// Accepts no packet at all (`ret 0` of the classic packet filter).
    const DROP_ALL: [socket2::SockFilter; 1] = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    // By this time the kernel has not closed the connection by itself.
    const BEFORE_THE_KERNEL: Duration = Duration::from_secs(20);

    let stack = Stack::builder()
        .gateways(2)
        .gateway("STREAMS_PER_USER", "1")
        .gateway("STREAM_HEARTBEAT_S", "1")
        .start()
        .await
        .unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let elsewhere = ann.moved_to(&stack.gateways[1].url()).unwrap();
    let mut vanished = TcpStream::connect(("127.0.0.1", stack.gateways[0].port())).await.unwrap();
    let request = format!("GET /chat/lobby/message HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\r\n", ann.token());
    vanished.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.windows(12).any(|window| window == b"event: ready") {
        assert_ne!(timeout(SOON, vanished.read_buf(&mut response)).await.unwrap().unwrap(), 0);
    }
    assert_eq!(elsewhere.stream("lobby").response().await.unwrap().status(), 429, "its lease counts");
    socket2::SockRef::from(&vanished).attach_filter(&DROP_ALL).unwrap();
    let cut_off = Instant::now();
    let opened = eventually(BEFORE_THE_KERNEL, "the lease of the vanished client is free", async || {
        elsewhere.stream("lobby").open().await
    });
    let _stream = opened.await.unwrap();
    assert!(cut_off.elapsed() < BEFORE_THE_KERNEL, "{:?}", cut_off.elapsed());
    // The lease of a client that is connected is kept, however often others ask.
    assert_eq!(ann.stream("lobby").response().await.unwrap().status(), 429);
}
