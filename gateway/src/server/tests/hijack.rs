//! Handlers that hijack the socket.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use poem::{Request, Response};
use tokio::sync::mpsc;

use super::clients::{Server, TestResult, eventually};
use crate::server::{HijackOffer, HijackedSocket, ServerLimits};

/// Longer than what a socket takes at once.
const LONG: usize = 8 * 1024 * 1024;

/// A server that begins each answer with `first` and hands the rest over, if the socket is offered; and who gets it.
async fn handing_over(first: Bytes) -> TestResult<(Server, mpsc::Receiver<HijackedSocket>)> {
    let (sender, taken) = mpsc::channel(1);
    let endpoint = move |request: Request| match request.extensions().get::<HijackOffer>().cloned() {
        Some(offer) => {
            let sender = sender.clone();
            Response::builder().header("connection", "close").body(offer.accept(first.clone(), move |taken| {
                let _ = sender.try_send(taken);
            }))
        }
        None => Response::builder().body("not offered"),
    };
    let limits = ServerLimits {
        max_connections: 1,
        ..ServerLimits::default()
    };
    Ok((Server::start(limits, endpoint).await?, taken))
}

#[tokio::test]
async fn the_socket_is_handed_over_after_the_beginning_is_sent() -> TestResult {
    let (server, mut taken) = handing_over(Bytes::from_static(b"begin")).await?;
    let mut client = server.connect().await?;
    // What is sent ahead of time is discarded.
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\nGET /next HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    let HijackedSocket { mut socket, permit } = eventually(taken.recv()).await?.ok_or("not handed over")?;
    socket.write_all(b"3\r\nend\r\n0\r\n\r\n")?;
    let answer = client.until("0\r\n\r\n").await?;
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n5\r\nbegin\r\n3\r\nend\r\n0\r\n\r\n"), "{answer}");
    // It counts among the connections until its permit is released.
    let mut other = server.connect().await?;
    other.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    assert_eq!(other.answer().await?.status, 503);
    drop((socket, permit));
    client.closed().await
}

#[tokio::test]
async fn a_beginning_longer_than_the_socket_buffer_is_sent_first() -> TestResult {
    let (server, mut taken) = handing_over(vec![b'x'; LONG].into()).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.until("\r\n\r\n").await?;
    assert!(taken.try_recv().is_err(), "the client has not read anything yet");
    let reading = tokio::spawn(async move { client.until("end").await.map(|body| body.len()) });
    let mut taken = eventually(taken.recv()).await?.ok_or("not handed over")?;
    taken.socket.write_all(b"3\r\nend\r\n")?;
    assert!(eventually(reading).await??? > LONG);
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_early_drops_the_hijack_handler() -> TestResult {
    struct DropSignal(mpsc::Sender<()>);
    impl Drop for DropSignal {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }
    let (dropped, mut seen) = mpsc::channel(1);
    let signal = Arc::new(Mutex::new(Some(DropSignal(dropped))));
    let server = Server::start(ServerLimits::default(), move |request: Request| {
        let signal = signal.lock().unwrap().take();
        let offer = request.extensions().get::<HijackOffer>().cloned().unwrap();
        Response::builder().body(offer.accept(vec![b'x'; LONG].into(), move |_| drop(signal)))
    })
    .await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.until("\r\n\r\n").await?;
    drop(client);
    eventually(seen.recv()).await?;
    Ok(())
}

#[tokio::test]
async fn http2_and_http10_sockets_are_not_offered() -> TestResult {
    let (server, _taken) = handing_over(Bytes::from_static(b"begin")).await?;
    let mut http2 = server.connect_http2().await?;
    assert_eq!(http2.get("/").await?.1, "not offered");
    drop(http2);
    eventually(async {
        loop {
            let mut old = server.connect().await?;
            old.send("GET / HTTP/1.0\r\n\r\n").await?;
            if old.answer().await?.body == "not offered" {
                return TestResult::Ok(());
            }
        }
    })
    .await?
}
