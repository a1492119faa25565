//! Signals to services: SIGTERM and SIGHUP.

use std::time::Duration;

use rig::{Method, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{SOON, lobby};

#[tokio::test]
async fn second_sigterm_ends_gateway_at_once_as_failed() {
    let (mut stack, ann) = lobby().await;
    // The body of this request never comes, which keeps the gateway from stopping.
    let mut unfinished = TcpStream::connect(("127.0.0.1", stack.gateways[0].port())).await.unwrap();
    let token = ann.token();
    let request = format!(
        "POST /chat/lobby/message HTTP/1.1\r\nhost: chat\r\nauthorization: {token}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    unfinished.write_all(request.as_bytes()).await.unwrap();
    // The gateway processes the request when it asks for the body.
    let mut asked = [0; 25];
    tokio::time::timeout(SOON, unfinished.read_exact(&mut asked)).await.unwrap().unwrap();
    let gateway = &mut stack.gateways[0].process;
    gateway.terminate().unwrap();
    eventually(SOON, "the gateway has logged the first signal", async || {
        let is_logged = gateway.log().contains("stopping: SIGTERM");
        is_logged.then_some(()).ok_or_else(|| rig::Failure::new("not yet"))
    })
    .await
    .unwrap();
    gateway.terminate().unwrap();
    assert_eq!(gateway.exit_code(Duration::from_secs(5)).await.unwrap(), 1);
    assert!(gateway.log().contains("second signal"), "{}", gateway.log_end());
}

/// What a request waits for, a receipt of the worker or the acknowledgement of another gateway, still comes.
#[tokio::test]
async fn requests_in_flight_are_answered_while_gateway_stops() {
    let (mut stack, ann) = lobby().await;
    ann.post("lobby", "hello").await.unwrap();
    let id = eventually(SOON, "the message is stored", async || {
        let newest = ann.history("lobby", "").await?;
        let id = newest.first().and_then(|message| message["id"].as_str().map(str::to_owned));
        id.ok_or_else(|| rig::Failure::new("not yet"))
    })
    .await
    .unwrap();
    let bob = ann.register("bob").await.unwrap();
    bob.post("lobby", "hello").await.unwrap();
    stack.worker.process.pause().unwrap();
    let edit = ann.request(Method::PATCH, &format!("/chat/lobby/message/{id}")).json(&json!({"message": "hi"}));
    let edit = tokio::spawn(async move { ann.send(edit).await });
    // It is in the accept log, and the gateway waits for its outcome.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stack.gateways[0].process.terminate().unwrap();
    let leave = tokio::spawn(async move { bob.call(Method::DELETE, "/chat/lobby/message").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    stack.worker.process.resume().unwrap();
    let stopping = std::time::Instant::now();
    edit.await.unwrap().unwrap().expect(200).unwrap();
    assert_eq!(stack.gateways[0].process.exit_code(SOON).await.unwrap(), 0);
    assert!(stopping.elapsed() < Duration::from_secs(3), "it took {:?}", stopping.elapsed());
    // It came after the signal: it was answered, or refused at once.
    let _ = leave.await.unwrap();
}

#[tokio::test]
async fn sighup_ends_nothing() {
    let (stack, ann) = lobby().await;
    let mut stream = ann.stream("lobby").open().await.unwrap();
    stack.gateways[0].process.hang_up().unwrap();
    stack.worker.process.hang_up().unwrap();
    eventually(SOON, "both have logged it", async || {
        let services = [&stack.gateways[0].process, &stack.worker.process];
        let is_logged = services.iter().all(|process| process.log().contains("SIGHUP"));
        is_logged.then_some(()).ok_or_else(|| rig::Failure::new("not yet"))
    })
    .await
    .unwrap();
    ann.post("lobby", "still there").await.unwrap();
    stream.message(SOON).await.unwrap();
}
