//! What clients are told when no endpoint is asked, and the polite way to close a connection.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use uuid::Uuid;

/// The longest that answering and closing may take, and each of the two waits in it.
pub(super) const CLOSING_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes read and thrown away after our last one. What a client sends past them costs it the answer.
const CLOSING_BYTES: usize = 1024 * 1024;

/// Why a client is turned away without the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many connections as allowed are open.
    Busy,
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

    /// The complete HTTP/1.1 answer, in the error shape of the API.
    fn response(self, request_id: Uuid) -> String {
        let (status, code, message, headers) = match self {
            Self::Busy => (
                "503 Service Unavailable",
                "busy",
                "Too many connections are open. Try again in a few seconds.",
                "retry-after: 5\r\n",
            ),
            Self::MalformedHead => {
                ("400 Bad Request", "malformed_request", "The request line or a header is not valid HTTP.", "")
            }
            Self::HeadTooLarge => (
                "431 Request Header Fields Too Large",
                "headers_too_large",
                "The request line and the headers together are too large.",
                "",
            ),
        };
        let body = format!(r#"{{"status":"fail","code":"{code}","message":"{message}","request_id":"{request_id}"}}"#);
        format!(
            "HTTP/1.1 {status}\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }
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
