//! What clients are told when no endpoint is asked, and the polite way to close a connection.

use std::{io, time::Duration};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, RETRY_AFTER};
use http::response::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use uuid::Uuid;

use super::account::Excess;

/// The longest that answering and closing may take, and each of the two waits in it.
pub(super) const CLOSING_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes read and thrown away after our last one. What a client sends past them costs it the answer.
const CLOSING_BYTES: usize = 1024 * 1024;

/// When a client that had too much may come back, in seconds.
const RETRY_AFTER_S: u64 = 5;

/// Why a client is turned away without the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many connections as allowed are open, or as many bytes in hand.
    Busy,
    /// As many connections as one address may have are open.
    TooManyConnections,
    /// As many bytes as one client may have are in hand.
    TooMuchInFlight,
    /// The request head is not HTTP.
    MalformedHead,
    /// The request head is larger than allowed.
    HeadTooLarge,
}

impl Refusal {
    /// The reason for a connection that hyper ended over a head it could not parse; `None` for any other end.
    pub(super) fn of_head(error: &hyper::Error) -> Option<Self> {
        match error {
            error if error.is_parse_too_large() => Some(Self::HeadTooLarge),
            error if error.is_parse() => Some(Self::MalformedHead),
            _ => None,
        }
    }

    /// Status, stable code, and what a person reads.
    fn told(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The service is busy: come back in a few seconds."),
            Self::TooManyConnections => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_connections",
                "Too many connections are open from this address: close one first.",
            ),
            Self::TooMuchInFlight => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_much_in_flight",
                "Too many bytes of requests and answers are under way: finish some first.",
            ),
            Self::MalformedHead => {
                (StatusCode::BAD_REQUEST, "malformed_request", "The request line or a header is not valid HTTP.")
            }
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "The request line and the headers together are too large.",
            ),
        }
    }

    /// When to come back, in seconds, if that is of use.
    fn retry_after(self) -> Option<u64> {
        match self {
            Self::Busy | Self::TooManyConnections | Self::TooMuchInFlight => Some(RETRY_AFTER_S),
            Self::MalformedHead | Self::HeadTooLarge => None,
        }
    }

    /// The body, in the error shape of the API.
    fn body(self, request_id: &str) -> String {
        let (_, code, message) = self.told();
        format!(r#"{{"status":"fail","code":"{code}","message":"{message}","request_id":"{request_id}"}}"#)
    }

    /// The complete HTTP/1.1 answer.
    fn response(self, request_id: Uuid) -> String {
        let (status, ..) = self.told();
        let body = self.body(&request_id.to_string());
        let retry_after = self.retry_after().map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\n{retry_after}content-type: application/json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

impl From<Excess> for Refusal {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::Own => Self::TooMuchInFlight,
            Excess::Process => Self::Busy,
        }
    }
}

/// Turns an answer into a refusal: returns its body, and leaves the headers that do not speak of the former one.
pub(super) fn replace(parts: &mut Parts, refusal: Refusal) -> BoxBody<Bytes, io::Error> {
    let headers = &mut parts.headers;
    for of_body in [CONTENT_LENGTH, CONTENT_ENCODING, ETAG, LINK] {
        headers.remove(of_body);
    }
    let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let body = refusal.body(request_id);
    (parts.status, ..) = refusal.told();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed()
}

/// Waits for the start of a request, answers it and closes. Takes at most two seconds.
///
/// It waits because a client that reads an answer before it has asked takes the connection for broken.
pub(super) async fn answer_first_request(stream: TcpStream, refusal: Refusal) {
    if let Ok(Ok(())) = timeout(CLOSING_DEADLINE, stream.readable()).await {
        answer(stream, refusal).await;
    }
}

/// Answers and closes. Takes at most a second.
pub(super) async fn answer(mut stream: TcpStream, refusal: Refusal) {
    let response = refusal.response(Uuid::new_v4());
    let closing = async {
        stream.write_all(response.as_bytes()).await?;
        drain(&mut stream).await
    };
    // Whether the client takes it is the client's affair.
    let _ = timeout(CLOSING_DEADLINE, closing).await;
}

/// Closes after the last response. Takes at most a second.
///
/// Closing with unread bytes makes the kernel reset the connection, and a reset takes the response from the client that
/// is still sending: a body that was too large, a request after the last one. So our half closes first and what
/// still comes is thrown away until the client closes its own.
pub(super) async fn close(mut stream: TcpStream) {
    let _ = timeout(CLOSING_DEADLINE, drain(&mut stream)).await;
}

async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut discarded = vec![0; 4096];
    let mut left = CLOSING_BYTES;
    while left > 0 {
        let read = stream.read(&mut discarded).await?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}
