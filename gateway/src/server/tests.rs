//! The accept loop over real sockets: what clients see, and what the endpoint sees of clients that misbehave.

mod clients;
mod deadlines;
mod hijack;
mod shutdown;

use std::time::Duration;

use http::StatusCode;
use poem::Response;

use super::ServerLimits;
use super::client_budget::{EARLY_BYTES, REQUESTS, REQUESTS_BEFORE_TOKEN};
use clients::{LISTED_ORIGIN, Server, TestResult, eventually};

#[tokio::test]
async fn a_connection_answers_one_request_after_the_other() -> TestResult {
    let server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut client = server.connect().await?;
    for _ in 0..2 {
        client.send("GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").await?;
        let answer = client.answer().await?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    }
    client.send("GET /hello HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await?;
    assert_eq!(client.answer().await?.status, 200);
    client.closed().await
}

/// Closing at once would reset the connection, and a client that is still sending would fail before it reads.
#[tokio::test]
async fn an_answer_given_before_the_body_was_read_arrives() -> TestResult {
    let server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut client = server.connect().await?;
    let (part, parts) = ("x".repeat(16 * 1024), 32);
    let length = part.len() * parts;
    let headers = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
    client.send(&headers).await?;
    eventually(client.stream.readable()).await??;
    for _ in 0..parts {
        client.send(&part).await?;
    }
    assert_eq!(client.answer().await?.body, "hello");
    Ok(())
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() -> TestResult {
    let server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut client = server.connect_http2().await?;
    for _ in 0..2 {
        let (status, body) = client.get("/hello").await?;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "hello"));
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_drops_its_silent_stream() -> TestResult {
    let (silent, mut dropped) = clients::silent_stream();
    let server = Server::start(ServerLimits::default(), silent).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.until("first").await?;
    drop(client);
    eventually(dropped.recv()).await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_beyond_the_limit_gets_busy() -> TestResult {
    let limits = ServerLimits {
        max_connections: 1,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let mut first = server.connect().await?;
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    first.answer().await?;

    let mut second = server.connect().await?;
    second.send(&format!("GET / HTTP/1.1\r\nhost: test\r\norigin: {LISTED_ORIGIN}\r\n\r\n")).await?;
    let answer = second.answer().await?;
    assert_eq!(answer.status, 503);
    // As every answer has them.
    let allowed = format!("access-control-allow-origin: {LISTED_ORIGIN}\r\n");
    for header in [
        "retry-after: 2\r\n",
        "x-request-id: ",
        "x-content-type-options: nosniff\r\n",
        &allowed,
    ] {
        assert!(answer.headers.contains(header), "no {header} in {}", answer.headers);
    }
    answer.assert_error("busy")?;
    second.closed().await?;

    drop(first);
    // The permit is released as soon as the server has noticed.
    eventually(async {
        loop {
            let mut third = server.connect().await?;
            third.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
            if third.answer().await?.status == 200 {
                return TestResult::Ok(());
            }
        }
    })
    .await?
}

#[tokio::test]
async fn an_address_has_a_limit_of_connections() -> TestResult {
    let limits = ServerLimits {
        connections_per_address: 1,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let mut first = server.connect().await?;
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    first.answer().await?;
    let mut second = server.connect().await?;
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    let answer = second.answer().await?;
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains("retry-after: 2\r\n"), "{}", answer.headers);
    answer.assert_error("too_many_connections")?;
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    assert_eq!(first.answer().await?.status, 200);
    Ok(())
}

/// Headers cost time even if all of them are refused, and closing the connection does not avoid it.
#[tokio::test]
async fn an_address_without_a_token_is_read_at_its_rate() -> TestResult {
    const HEADER_BYTES: usize = 15_000;
    const CONNECTIONS: usize = 100;
    let limits = ServerLimits {
        connections_per_address: CONNECTIONS,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: test\r\nfiller: {}\r\n\r\n", "x".repeat(HEADER_BYTES));
    let began = std::time::Instant::now();
    // One second's worth is read at once, and another one is not.
    let requests = (2 * EARLY_BYTES * CONNECTIONS as u64).div_ceil(HEADER_BYTES as u64);
    let mut client = server.connect().await?;
    for n in 0..requests {
        if n % 10 == 9 {
            client = server.connect().await?;
        }
        client.send(&request).await?;
        assert_eq!(client.answer().await?.status, 200);
    }
    let took = began.elapsed();
    // The last request is read before it is paid for.
    assert!(took > Duration::from_millis(900), "{took:?}");
    Ok(())
}

/// For hyper, headers that are refused at their first byte are a connection that ends in order: its client would get no answer.
#[tokio::test]
async fn whole_headers_beyond_the_budget_are_answered() -> TestResult {
    let limits = ServerLimits {
        max_header_bytes: 256 * 1024,
        ..ServerLimits::default()
    };
    let server = Server::start(limits, clients::greeting).await?;
    let begin = "GET / HTTP/1.1\r\nhost: test\r\nfiller: ";
    // The large ones fill the budget of the address but for less than one of them, the small ones the rest.
    let large = (REQUESTS.address / (REQUESTS_BEFORE_TOKEN - 4_096) + 4, REQUESTS_BEFORE_TOKEN - 2_048);
    let small = (REQUESTS_BEFORE_TOKEN / 3_000, 6_000);
    let mut waiting = Vec::new();
    for (count, bytes) in [large, small] {
        for _ in 0..count {
            let mut client = server.connect().await?;
            client.send(&format!("{begin}{}", "x".repeat(bytes - begin.len()))).await?;
            waiting.push(client);
        }
    }
    let whole = format!("{begin}{}\r\norigin: {LISTED_ORIGIN}\r\n\r\n", "x".repeat(6_000));
    eventually(async {
        loop {
            let mut client = server.connect().await?;
            client.send(&whole).await?;
            let answer = client.answer().await?;
            // Not all of what fills the budget has been read yet.
            if answer.status == 200 {
                continue;
            }
            assert_eq!(answer.status, 429);
            let allowed = format!("access-control-allow-origin: {LISTED_ORIGIN}\r\n");
            assert!(answer.headers.contains(&allowed), "{}", answer.headers);
            answer.assert_error("too_much_in_flight")?;
            return client.closed().await;
        }
    })
    .await?
}

#[tokio::test]
async fn a_panicking_endpoint_costs_only_its_connection() -> TestResult {
    let server = Server::start(ServerLimits::default(), |request: poem::Request| {
        assert!(request.uri().path() != "/panic", "asked for");
        Response::builder().body("well")
    })
    .await?;
    let mut client = server.connect().await?;
    client.send("GET /panic HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    client.closed().await?;

    let mut http2 = server.connect_http2().await?;
    assert!(http2.get("/panic").await.is_err(), "a request whose handler panicked was answered");
    assert_eq!(http2.get("/").await?.0, StatusCode::OK, "the other requests of the connection go on");

    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    assert_eq!(client.answer().await?.body, "well");
    Ok(())
}

#[tokio::test]
async fn a_malformed_request_gets_an_error_answer() -> TestResult {
    let server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut client = server.connect().await?;
    client.send("this is not HTTP\r\n\r\n").await?;
    let answer = client.answer().await?;
    assert_eq!(answer.status, 400);
    answer.assert_error("malformed_request")?;
    client.closed().await
}

#[tokio::test]
async fn a_malformed_second_request_gets_an_error_answer() -> TestResult {
    let server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
    assert_eq!(client.answer().await?.status, 200);
    client.send("GET / HTTP/1.1\r\nno colon\r\n\r\n").await?;
    let answer = client.answer().await?;
    assert_eq!(answer.status, 400);
    answer.assert_error("malformed_request")?;
    client.closed().await
}

/// The withholding of hyper's answers must never take a byte of ours.
#[tokio::test]
async fn a_malformed_pipelined_request_leaves_the_first_answer_whole() -> TestResult {
    let server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut client = server.connect().await?;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\nthis is not HTTP\r\n\r\n").await?;
    let answer = client.answer().await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    let answer = client.answer().await?;
    assert_eq!(answer.status, 400);
    answer.assert_error("malformed_request")?;
    client.closed().await
}

#[tokio::test]
async fn headers_past_the_limit_get_an_error_answer() -> TestResult {
    let server = Server::start(ServerLimits::default(), clients::greeting).await?;
    let mut client = server.connect().await?;
    client
        .send(&format!(
            "GET / HTTP/1.1\r\nhost: test\r\norigin: {LISTED_ORIGIN}\r\nfiller: {}\r\n\r\n",
            "x".repeat(32 * 1024)
        ))
        .await?;
    let answer = client.answer().await?;
    assert_eq!(answer.status, 431);
    assert!(
        answer.headers.contains(&format!("access-control-allow-origin: {LISTED_ORIGIN}\r\n")),
        "{}",
        answer.headers
    );
    answer.assert_error("headers_too_large")?;
    client.closed().await
}
