//! Refusals that are sent without the endpoint, and how a connection is closed so that its last response arrives.
//!
//! The API renders the text of refusals, as it does with all answers: [`RefusalRenderer`].

use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, LINK};
use http::response::Parts;
use http::{HeaderMap, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client_budget::OverBudget;

/// The longest that answering and closing may take, and each of the two waits in it.
pub(super) const CLOSING_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes read and discarded after our last one. A client that sends more loses the answer.
const CLOSING_BYTES: usize = 1024 * 1024;

/// Bytes of a request that are read before it is refused: the headers of an ordinary one.
const PEEKED_BYTES: usize = 4 * 1024;

/// Why a client is refused without the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many connections as allowed are open, or this process holds as many bytes as it may.
    Busy,
    /// As many connections as one address may have are open.
    TooManyConnections,
    /// The client has as many bytes under way as one client may have.
    TooMuchInFlight,
    /// The request line or a header is not HTTP.
    MalformedRequest,
    /// The request line and the headers together are larger than allowed.
    HeadersTooLarge,
}

impl Refusal {
    /// The reason for a connection that hyper ended over headers it could not parse; `None` for any other end.
    pub(super) fn of_parse_error(error: &hyper::Error) -> Option<Self> {
        match error {
            error if error.is_parse_too_large() => Some(Self::HeadersTooLarge),
            error if error.is_parse() => Some(Self::MalformedRequest),
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

/// Renders refusals. It is a trait, because nothing here knows what the answers of the API look like.
pub(crate) trait RefusalRenderer: Send + Sync {
    /// The whole answer to a request of which only the `beginning` was read.
    fn for_unparsed(&self, refusal: Refusal, beginning: &[u8]) -> Response<Bytes>;

    /// The answer that replaces one with these `headers`. Headers that it needs of its own are in what is returned.
    fn instead_of(&self, refusal: Refusal, headers: &HeaderMap) -> Response<Bytes>;
}

/// Turns an answer into a refusal: returns the new body, and removes the headers that describe the former one.
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

/// The bytes of a complete HTTP/1.1 answer, after which the connection is closed.
fn encode(answer: &Response<Bytes>) -> Vec<u8> {
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
    let mut beginning = vec![0; PEEKED_BYTES];
    if let Ok(Ok(length)) = timeout(CLOSING_DEADLINE, stream.peek(&mut beginning)).await {
        answer(stream, refusals.for_unparsed(refusal, &beginning[..length])).await;
    }
}

/// Answers and closes. Takes at most a second.
pub(super) async fn answer(mut stream: TcpStream, answer: Response<Bytes>) {
    let closing = async {
        stream.write_all(&encode(&answer)).await?;
        drain(&mut stream).await
    };
    // The connection is closed whether the client has taken the answer or not.
    let _ = timeout(CLOSING_DEADLINE, closing).await;
}

/// Closes after the last response. Takes at most a second.
///
/// Closing with unread bytes makes the kernel reset the connection, and a reset takes the response from the client that
/// is still sending: a body that was too large, a request after the last one. So our half closes first, and what
/// still comes is discarded until the client closes its own.
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
