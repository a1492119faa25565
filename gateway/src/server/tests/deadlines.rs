//! Clients that make the server wait.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::clients::{self, Server, TestResult, eventually};
use crate::server::{
    ServerLimits,
    client_budget::ClientBudgets,
    connection_budget::ConnectionBudget,
    connection_state::{ActiveRequest, ConnectionState},
    socket::{Protocol, Socket},
};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_silent_connection_is_closed() -> TestResult {
    let limits = ServerLimits {
        first_byte_deadline: SHORT,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let begin = Instant::now();
    server.connect().await?.closed().await?;
    assert!(begin.elapsed() >= SHORT);
    Ok(())
}

#[tokio::test]
async fn half_sent_headers_are_closed_at_their_deadline() -> TestResult {
    let limits = ServerLimits {
        header_deadline: SHORT,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let mut client = server.connect().await?;
    let begin = Instant::now();
    client.send("GET / HTTP/1.1\r\nhost: te").await?;
    client.closed().await?;
    assert!(begin.elapsed() >= SHORT);
    Ok(())
}

#[tokio::test]
async fn half_sent_second_headers_are_closed_at_their_deadline() -> TestResult {
    let limits = ServerLimits {
        header_deadline: SHORT,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.answer().await?;
    client.send("GET / HT").await?;
    client.closed().await
}

#[tokio::test]
async fn an_idle_connection_ends_at_the_idle_deadline_alone() -> TestResult {
    let limits = ServerLimits {
        header_deadline: SHORT,
        idle_deadline: 4 * SHORT,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.answer().await?;
    let begin = Instant::now();
    client.closed().await?;
    assert!(begin.elapsed() >= 3 * SHORT, "closed after {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() -> TestResult {
    let limits = ServerLimits {
        idle_deadline: SHORT,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let mut client = server.connect_http2().await?;
    client.get("/").await?;
    eventually(&mut client.connection).await???;
    Ok(())
}

/// No deadline of the connection runs against a stream in which nothing happens.
#[tokio::test]
async fn a_quiet_stream_outlives_every_deadline() -> TestResult {
    let limits = ServerLimits {
        header_deadline: SHORT,
        first_byte_deadline: SHORT,
        idle_deadline: SHORT,
        write_stall: SHORT,
        ..ServerLimits::default()
    };
    let (silent, mut dropped) = clients::silent_stream();
    let server = Server::start(limits, silent).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.until("first").await?;
    assert!(tokio::time::timeout(5 * SHORT, dropped.recv()).await.is_err(), "the stream was cut");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_has_stopped_is_cut_off() -> TestResult {
    let limits = ServerLimits {
        write_stall: SHORT,
        ..ServerLimits::default()
    };
    let (endless, mut dropped) = clients::endless_stream();
    let server = Server::start(limits, endless).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    eventually(dropped.recv()).await?;
    // What had arrived is still there; then comes the reset instead of the end of the body.
    let rest = eventually(tokio::io::copy(&mut client.stream, &mut tokio::io::sink())).await?;
    assert_eq!(rest.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionReset));
    Ok(())
}

#[tokio::test]
async fn a_stalled_http2_response_ends_and_its_connection_goes_on() -> TestResult {
    let limits = ServerLimits {
        write_stall: SHORT,
        ..ServerLimits::default()
    };
    let (endless, mut dropped) = clients::endless_stream();
    let server = Server::start(limits, endless).await?;
    let client = server.connect_http2_with(|settings| {
        settings.initial_stream_window_size(0);
    });
    let client = &mut client.await?;
    let begin = Instant::now();
    let _unread = client.answer_headers("/").await?;
    eventually(dropped.recv()).await?;
    assert!(begin.elapsed() >= SHORT);
    assert_eq!(client.answer_headers("/").await?.status(), 200);
    Ok(())
}

/// The same without the help of the kernel, whose own deadline for unacknowledged bytes is as long.
#[tokio::test]
async fn a_blocked_write_fails_at_its_deadline() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (stream, _) = listener.accept().await?;
    let budget = ConnectionBudget::new(ClientBudgets::new(0), None);
    let state = ConnectionState::new(budget);
    let _request = ActiveRequest::start(&state);
    let mut socket = Socket::new(stream, Protocol::Http1, state, SHORT);
    let blocked = eventually(async {
        loop {
            if let Err(error) = socket.write_all(&[b'x'; 8 * 1024]).await {
                return error;
            }
        }
    })
    .await?;
    assert_eq!(blocked.kind(), io::ErrorKind::TimedOut);
    drop(client);
    Ok(())
}
