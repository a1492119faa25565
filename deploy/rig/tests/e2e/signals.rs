//! What signals do to a service.

use std::time::Duration;

use rig::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::{SOON, lobby};

#[tokio::test]
async fn a_second_sigterm_ends_the_gateway_at_once_as_failed() {
    let (mut stack, ann) = lobby().await;
    // Its body never comes, and keeps the gateway from stopping.
    let mut unfinished = TcpStream::connect(("127.0.0.1", stack.gateways[0].port())).await.unwrap();
    let token = ann.token();
    let request = format!(
        "POST /chat/lobby/message HTTP/1.1\r\nhost: chat\r\nauthorization: {token}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    unfinished.write_all(request.as_bytes()).await.unwrap();
    // It is being worked on as soon as the body is asked for.
    let mut asked = [0; 25];
    tokio::time::timeout(SOON, unfinished.read_exact(&mut asked)).await.unwrap().unwrap();
    let gateway = &mut stack.gateways[0].service;
    gateway.terminate().unwrap();
    eventually(SOON, "the gateway has heard the first signal", async || {
        let heard = gateway.log().contains("stopping: SIGTERM");
        heard.then_some(()).ok_or_else(|| rig::Failure::new("not yet"))
    })
    .await
    .unwrap();
    gateway.terminate().unwrap();
    assert_eq!(gateway.exit_code(Duration::from_secs(5)).await.unwrap(), 1);
    assert!(gateway.log().contains("second signal"), "{}", gateway.log_end());
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let (stack, ann) = lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    stack.gateways[0].service.hang_up().unwrap();
    stack.worker.service.hang_up().unwrap();
    eventually(SOON, "both have heard it", async || {
        let services = [&stack.gateways[0].service, &stack.worker.service];
        let heard = services.iter().all(|service| service.log().contains("SIGHUP"));
        heard.then_some(()).ok_or_else(|| rig::Failure::new("not yet"))
    })
    .await
    .unwrap();
    ann.post("lobby", "still there").await.unwrap();
    stream.message(SOON).await.unwrap();
}
