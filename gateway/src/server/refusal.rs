//! Turning clients away without the endpoint, and the polite way to close a connection.
//!
//! What they are told is made where all answers are: [`RefusalRenderer`].

use std::{io, io::Write as _, time::Duration};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, LINK};
use http::response::Parts;
use http::{HeaderMap, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::client_budget::OverBudget;

/// The longest that answering and closing may take, and each of the two waits in it.
pub(super) const CLOSING_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes read and thrown away after our last one. What a client sends past them costs it the answer.
const CLOSING_BYTES: usize = 1024 * 1024;

/// Bytes of a request that are looked at before it is turned away: the head of an ordinary one.
const PEEKED_HEAD_BYTES: usize = 4 * 1024;

/// Why a client is turned away without the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
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
}

impl From<OverBudget> for Refusal {
    fn from(over: OverBudget) -> Self {
        match over {
            OverBudget::Client => Self::TooMuchInFlight,
            OverBudget::Process => Self::Busy,
        }
    }
}

/// Makes the answers to those who are turned away. A trait, since nothing here knows what the answers of the API look like.
pub(crate) trait RefusalRenderer: Send + Sync {
    /// The whole answer to a request that begins with `head`, as far as it was looked at.
    fn for_head(&self, refusal: Refusal, head: &[u8]) -> Response<Bytes>;

    /// The answer instead of one that has these `headers` already. What it needs of its own stands in the headers of what is
    /// returned.
    fn instead_of(&self, refusal: Refusal, headers: &HeaderMap) -> Response<Bytes>;
}

/// Turns an answer into a refusal: returns its body, and leaves the headers that do not speak of the former one.
pub(super) fn replace(
    parts: &mut Parts,
    refusal: Refusal,
    refusals: &dyn RefusalRenderer,
) -> BoxBody<Bytes, io::Error> {
    for of_body in [CONTENT_LENGTH, CONTENT_ENCODING, ETAG, LINK] {
        parts.headers.remove(of_body);
    }
    let (made, body) = refusals.instead_of(refusal, &parts.headers).into_parts();
    parts.status = made.status;
    for (name, value) in &made.headers {
        parts.headers.insert(name, value.clone());
    }
    Full::new(body).map_err(|never| match never {}).boxed()
}

/// The complete HTTP/1.1 answer, after which the connection is closed.
fn written(answer: &Response<Bytes>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + answer.body().len());
    let (status, body) = (answer.status(), answer.body());
    let mut put = |part: &[u8]| out.extend_from_slice(part);
    put(b"HTTP/1.1 ");
    put(status.to_string().as_bytes());
    for (name, value) in answer.headers() {
        put(b"\r\n");
        put(name.as_str().as_bytes());
        put(b": ");
        put(value.as_bytes());
    }
    write!(out, "\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).expect("memory takes everything");
    out.extend_from_slice(body);
    out
}

/// Waits for the start of a request, answers it and closes. Takes at most two seconds.
///
/// It waits because a client that reads an answer before it has asked takes the connection for broken.
pub(super) async fn answer_first_request(stream: TcpStream, refusal: Refusal, refusals: &dyn RefusalRenderer) {
    let mut head = vec![0; PEEKED_HEAD_BYTES];
    if let Ok(Ok(length)) = timeout(CLOSING_DEADLINE, stream.peek(&mut head)).await {
        answer(stream, refusals.for_head(refusal, &head[..length])).await;
    }
}

/// Answers and closes. Takes at most a second.
pub(super) async fn answer(mut stream: TcpStream, answer: Response<Bytes>) {
    let closing = async {
        stream.write_all(&written(&answer)).await?;
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
