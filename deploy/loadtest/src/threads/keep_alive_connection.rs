//! One connection that sends a request, receives the response, and sends the next request.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use rig::{Failure, Result};

use crate::client::post_tag::PostTag;
use crate::client::response_parser::{MOST_REFUSAL_BYTES, ResponseParser};
use crate::target::request::Request;
use crate::threads::request_cycle::RequestCycle;

/// A cycle of requests and the connection that sends them.
pub(crate) struct KeepAliveConnection {
    /// Number of this connection among those that post to the same room.
    number: u64,
    /// The requests that are sent in turn, and how often each was sent, including the one in flight.
    requests: Vec<(Request, u64)>,
    /// Index of the request that is sent next, or is in flight.
    next: usize,
    /// Time between two requests, in microseconds; `None` to send the next one as soon as the last one is answered.
    pub(crate) every_us: Option<u64>,
    /// Responses are not counted.
    pub(crate) is_uncounted: bool,
    /// Requests that succeed before the connection stops; `None` for no bound.
    pub(crate) limit: Option<u64>,
    /// When the next request is due by the rate, in microseconds of the run's clock; it may be sent later.
    pub(crate) due: u64,
    /// Requests that were sent and not refused.
    pub(crate) sent_requests: u64,
    /// `None` before the first connection and after one that broke.
    pub(crate) socket: Option<TcpStream>,
    pub(crate) state: State,
    response: ResponseParser,
    /// Bytes of the response body so far.
    body_length: usize,
    refusal: Vec<u8>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The connection is being established.
    Connecting,
    /// A request may be sent.
    Idle,
    /// A request is being sent, of which so many bytes are sent; it was due at `due` (microseconds).
    Sending { sent: usize, due: u64 },
    /// The request that was due at `due` was sent, and its response is not complete.
    Waiting { due: u64 },
}

/// A request whose response is complete.
pub(crate) struct CompletedRequest {
    pub(crate) status: u16,
    /// The room of the request.
    pub(crate) room: usize,
    /// The request was a post.
    pub(crate) is_post: bool,
    /// The body was shorter than a complete one.
    pub(crate) is_short: bool,
    /// When the request was due.
    pub(crate) due: u64,
    /// The beginning of the body of a refusal.
    pub(crate) refusal: String,
}

impl KeepAliveConnection {
    /// A connection that sends the requests of `cycle`, the first one at `due`.
    pub(crate) fn new(cycle: RequestCycle, due: u64) -> Self {
        Self {
            number: cycle.connection,
            requests: cycle.requests.into_iter().map(|request| (request, 0)).collect(),
            next: 0,
            every_us: cycle.every_us,
            is_uncounted: cycle.is_uncounted,
            limit: cycle.limit,
            due,
            sent_requests: 0,
            socket: None,
            state: State::Connecting,
            response: ResponseParser::new(),
            body_length: 0,
            refusal: Vec::new(),
        }
    }

    /// True while a request is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, State::Sending { .. } | State::Waiting { .. })
    }

    /// Continues over a new connection.
    pub(crate) fn connect_over(&mut self, socket: TcpStream) {
        self.socket = Some(socket);
        self.state = State::Connecting;
        self.response = ResponseParser::new();
        self.body_length = 0;
    }

    /// Ends the connection. The request in flight may have been accepted: it counts as sent, and its count is not used
    /// again.
    pub(crate) fn disconnect(&mut self) {
        self.socket = None;
        self.state = State::Connecting;
    }

    /// Begins to send the next request, which was due at `due`, in microseconds of the run's clock.
    pub(crate) fn send_next(&mut self, due: u64) -> Result<()> {
        let (request, count) = &mut self.requests[self.next];
        *count += 1;
        self.sent_requests += 1;
        request.renew(PostTag {
            connection: self.number,
            count: *count,
            posted_us: due,
        });
        self.state = State::Sending { sent: 0, due };
        self.send()
    }

    /// Sends what the socket did not accept earlier.
    pub(crate) fn send(&mut self) -> Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        if self.state == State::Connecting {
            match socket.take_error()? {
                Some(error) => return Err(error.into()),
                None if socket.peer_addr().is_ok() => self.state = State::Idle,
                None => {}
            }
        }
        while let State::Sending { sent, due } = self.state {
            let rest = &self.requests[self.next].0.bytes()[sent..];
            match socket.write(rest) {
                Ok(0) => return Err(Failure::new("the connection accepts no bytes")),
                Ok(length) if length == rest.len() => self.state = State::Waiting { due },
                Ok(length) => {
                    self.state = State::Sending {
                        sent: sent + length,
                        due,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what has come, and returns the request if its response is complete. Two responses never come at once,
    /// since the next request is sent after the response to the last one.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        is_success: impl Fn(u16) -> bool,
    ) -> Result<Option<CompletedRequest>> {
        let Some(socket) = &mut self.socket else {
            return Ok(None);
        };
        loop {
            let length = match socket.read(buffer) {
                Ok(0) => return Err(Failure::new("the server ended the connection")),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let State::Waiting { due } = self.state else {
                return Err(Failure::new("a response without a request"));
            };
            let (refusal, body_length) = (&mut self.refusal, &mut self.body_length);
            self.response.feed(&buffer[..length], |status, content| {
                *body_length += content.len();
                if !is_success(status) {
                    refusal.extend_from_slice(
                        &content[..content.len().min(MOST_REFUSAL_BYTES.saturating_sub(refusal.len()))],
                    );
                }
            })?;
            if self.response.is_over() {
                return Ok(Some(self.complete(due, is_success)));
            }
        }
    }

    fn complete(&mut self, due: u64, is_success: impl Fn(u16) -> bool) -> CompletedRequest {
        let status = self.response.status().unwrap_or(0);
        self.response = ResponseParser::new();
        self.state = State::Idle;
        let (request, count) = &mut self.requests[self.next];
        let (room, is_post) = (request.room, request.is_post());
        let is_short = std::mem::take(&mut self.body_length) < request.least_body;
        if is_success(status) {
            self.next = (self.next + 1) % self.requests.len();
        } else {
            // The same message is posted again.
            *count -= 1;
            self.sent_requests -= 1;
        }
        CompletedRequest {
            status,
            room,
            is_post,
            is_short,
            due,
            refusal: String::from_utf8_lossy(&std::mem::take(&mut self.refusal)).into_owned(),
        }
    }
}
