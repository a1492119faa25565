//! How the server stops while clients are there.

use bytes::Bytes;
use poem::{Body, Response};
use tokio::{net::TcpStream, sync::Mutex, sync::mpsc};

use super::clients::{self, Client, Server, TestResult, eventually};
use crate::server::ServerLimits;

#[tokio::test]
async fn the_soft_stop_finishes_responses_and_admits_nobody() -> TestResult {
    let (chunks, receiver) = mpsc::channel::<std::io::Result<Bytes>>(1);
    let receiver = Mutex::new(Some(receiver));
    let mut server = Server::start(ServerLimits::default(), move |_| {
        let receiver = receiver.try_lock().ok().and_then(|mut slot| slot.take());
        let chunks = futures_util::stream::unfold(receiver, |receiver| async {
            let mut receiver = receiver?;
            receiver.recv().await.map(|chunk| (chunk, Some(receiver)))
        });
        Response::builder().body(Body::from_bytes_stream(chunks))
    })
    .await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    chunks.send(Ok(Bytes::from_static(b"begin"))).await?;
    client.until("begin").await?;

    server.soft.cancel();
    eventually(async { while TcpStream::connect(server.address).await.is_ok() {} }).await?;
    chunks.send(Ok(Bytes::from_static(b"end"))).await?;
    drop(chunks);
    client.until("end\r\n0\r\n\r\n").await?;
    client.closed().await?;
    drop(client);
    server.stopped().await
}

#[tokio::test]
async fn a_queued_client_is_served_at_the_soft_stop() -> TestResult {
    let mut server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut first = server.connect().await?;
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    first.answer().await?;
    // The server gets no turn in between, since nothing is awaited: the kernel alone has accepted this one.
    let waiting = std::net::TcpStream::connect(server.address)?;
    server.soft.cancel();
    let mut client = Client::from_std(waiting)?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    assert_eq!(client.answer().await?.status, 200);
    client.closed().await?;
    first.closed().await?;
    server.stopped().await
}

#[tokio::test]
async fn the_soft_stop_closes_connections_without_a_request() -> TestResult {
    let mut server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut silent = server.connect().await?;
    let mut idle = server.connect().await?;
    idle.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    idle.answer().await?;
    let mut http2 = server.connect_http2().await?;
    http2.get("/").await?;

    server.soft.cancel();
    silent.closed().await?;
    idle.closed().await?;
    eventually(&mut http2.connection).await???;
    server.stopped().await
}

#[tokio::test]
async fn the_hard_stop_ends_what_is_left() -> TestResult {
    let (silent, mut dropped) = clients::silent_stream();
    let mut server = Server::start(ServerLimits::default(), silent).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.until("first").await?;
    let mut http2 = server.connect_http2().await?;
    let request = tokio::spawn(async move { http2.get("/").await.map(|_| ()) });

    server.soft.cancel();
    assert!(!server.task.is_finished(), "streams are left");
    server.hard.cancel();
    server.stopped().await?;
    assert!(client.until("0\r\n\r\n").await.is_err(), "a response cut in the middle must not look whole");
    assert!(eventually(request).await??.is_err(), "nor over HTTP/2");
    eventually(dropped.recv()).await?;
    Ok(())
}
