//! The state machine of one connection: what it is doing, and until when it may go on doing it.
//!
//! ```text
//!                       the first bytes of the next request (HTTP/1.1)
//!            ┌───────────────────────────────────────────────────────────────┐
//!  accepted  ▼                                                               │
//!  ─────► ReadingHeaders ─ request ──► Running ── the last response ends ──► Idle ◄─┐
//!            │                          │   ▲                                │ ▲    │
//!            │                          │   └────── a request (HTTP/2) ──────┘ │    │
//!            └────── it is HTTP/2 ──────┼──────────────────────────────────────┘    │
//!                                       │ its handler promises the socket           │
//!                                       ▼                                           │
//!                                 HijackPromised ───────────────────────────────────┤
//!                                       │ hyper has read the whole beginning        │
//!                                       ▼                                           │
//!                                  HijackBegun ──── the response ends before it ────┤
//!                                       │ hyper has written it                      │
//!                                       ▼                                           │
//!                                 HijackFlushed ────────────────────────────────────┘
//!                                       │ the driving loop takes the socket
//!                                       ▼
//!                                  HandedOver
//! ```
//!
//! [`Phase::after`] is that picture as a function. The socket reports bytes and flushes, [`ActiveRequest`] reports requests,
//! [`HijackOffer`](super::HijackOffer) reports the first two steps of a hijack, and the driving loop (`drive`) asks for
//! deadlines and takes the socket.
//!
//! hyper's `header_read_timeout` is not used: its clock starts when hyper begins to wait for headers, so it closes idle
//! keep-alive connections too, at the deadline meant for half-sent headers (hyper 1.12, `poll_read_head` and
//! `State::idle`), and HTTP/2 has none at all.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::ServerLimits;
use super::client_budget::OverBudget;
use super::connection_budget::ConnectionBudget;
use super::hijack_handler::HijackHandler;

/// How long a client may take, at the stop of the server, for a request that it is about to send: it connected before the
/// stop and cannot know of it.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client has connected, or a part of the request headers has come.
    ReadingHeaders,
    /// At least one request is being answered.
    Running,
    /// The connection is between requests.
    Idle,
    /// The handler of the running request wants the socket once the beginning of its response is sent.
    HijackPromised,
    /// hyper has read all of that beginning from the response body.
    HijackBegun,
    /// hyper has written all of it to the kernel.
    HijackFlushed,
    /// Somebody else owns the socket.
    HandedOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The connection speaks HTTP/2, where bytes between requests do not mean half-sent headers.
    Http2Recognized,
    BytesReceived,
    RequestStarted,
    /// The response of the only running request ended, or was dropped.
    LastResponseEnded,
    SocketPromised,
    /// hyper asked the response body for more than its beginning.
    BeginningRead,
    /// hyper has an empty write buffer.
    Flushed,
    SocketTaken,
}

impl Phase {
    /// The phase that follows `event`. An event without an arrow in the picture changes nothing.
    const fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Idle, Event::BytesReceived) => Self::ReadingHeaders,
            (Self::ReadingHeaders | Self::Idle, Event::RequestStarted) => Self::Running,
            (Self::Running, Event::SocketPromised) => Self::HijackPromised,
            (Self::HijackPromised, Event::BeginningRead) => Self::HijackBegun,
            (Self::HijackBegun, Event::Flushed) => Self::HijackFlushed,
            (Self::HijackFlushed, Event::SocketTaken) => Self::HandedOver,
            (Self::ReadingHeaders, Event::Http2Recognized)
            | (
                Self::Running | Self::HijackPromised | Self::HijackBegun | Self::HijackFlushed,
                Event::LastResponseEnded,
            ) => Self::Idle,
            (unchanged, _) => unchanged,
        }
    }
}

/// The state of one connection, shared by its socket, its requests and the loop that drives it.
///
/// The lock is held for a few instructions and never together with another one. Only an HTTP/2 connection, whose
/// requests are tasks of their own, ever contends for it. A panic leaves the state whole, because each statement does, and
/// the request of a panicking endpoint is still counted out.
#[derive(Debug)]
pub(super) struct ConnectionState {
    state: Mutex<State>,
    budget: Arc<ConnectionBudget>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// When `phase` began.
    since: Instant,
    /// Requests handed to the endpoint whose response has not ended.
    running: u32,
    /// Whether bytes of a response may still wait in hyper's buffer.
    unsent: bool,
    /// Bytes of the headers that have come in part.
    header_bytes: usize,
    /// Until when the response must be sent, if its length is known.
    send_by: Option<Instant>,
    /// Who gets the socket, from `HijackPromised` to `HijackFlushed`.
    hijacker: Option<HijackHandler>,
}

impl State {
    fn apply(&mut self, event: Event) {
        let phase = self.phase.after(event);
        if phase != self.phase {
            self.phase = phase;
            self.since = Instant::now();
        }
    }

    /// Counts a request out. Returns the handler of a hijack that does not take place; the caller drops it outside the lock,
    /// because its stream takes locks of its own.
    fn end_response(&mut self) -> Option<HijackHandler> {
        self.running -= 1;
        self.send_by = None;
        if self.running > 0 {
            return None;
        }
        self.apply(Event::LastResponseEnded);
        self.hijacker.take()
    }
}

impl ConnectionState {
    /// The state of a connection whose first byte has just come.
    pub(super) fn new(budget: Arc<ConnectionBudget>) -> Arc<Self> {
        let state = State {
            phase: Phase::ReadingHeaders,
            since: Instant::now(),
            running: 0,
            unsent: false,
            header_bytes: 0,
            send_by: None,
            hijacker: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            budget,
        })
    }

    /// The byte budget of this connection.
    pub(super) fn budget(&self) -> &ConnectionBudget {
        &self.budget
    }

    /// Notes that the connection speaks HTTP/2.
    pub(super) fn on_http2(&self) {
        self.lock().apply(Event::Http2Recognized);
    }

    /// Notes that `count` bytes came in (HTTP/1.1 only). Between requests they begin the next headers and are charged as
    /// such until those are complete. Fails if there is no room for them.
    pub(super) fn on_received(&self, count: usize) -> Result<(), OverBudget> {
        let mut state = self.lock();
        state.apply(Event::BytesReceived);
        if state.phase == Phase::ReadingHeaders {
            self.budget.charge(count)?;
            state.header_bytes += count;
        }
        Ok(())
    }

    /// Notes that hyper has written out everything it had.
    pub(super) fn on_flushed(&self) {
        let mut state = self.lock();
        if state.running == 0 {
            state.unsent = false;
        }
        state.apply(Event::Flushed);
    }

    /// Notes that `hijacker` wants the socket when the beginning of the response is sent.
    pub(super) fn promise_socket(&self, hijacker: HijackHandler) {
        let mut state = self.lock();
        state.apply(Event::SocketPromised);
        let replaced = state.hijacker.replace(hijacker);
        drop(state);
        drop(replaced);
    }

    /// Notes that hyper has read all of that beginning.
    pub(super) fn on_beginning_read(&self) {
        self.lock().apply(Event::BeginningRead);
    }

    /// Who gets the socket, once it has flushed the beginning of the response.
    pub(super) fn take_hijacker(&self) -> Option<HijackHandler> {
        let mut state = self.lock();
        state.apply(Event::SocketTaken);
        if state.phase == Phase::HandedOver {
            state.hijacker.take()
        } else {
            None
        }
    }

    /// Whether no request is being answered and nothing of an earlier response is left to send.
    ///
    /// What hyper writes then over HTTP/1.1 is its own answer to headers that it cannot parse.
    pub(super) fn owes_nothing(&self) -> bool {
        let state = self.lock();
        state.running == 0 && !state.unsent
    }

    /// Until when the present phase may last; `None` while a request is worked on, or answered by a stream. At the stop of
    /// the server, which began at `stopping`, a client that is about to send a request has [`LAST_REQUEST`] for it.
    pub(super) fn deadline(&self, limits: &ServerLimits, stopping: Option<Instant>) -> Option<Instant> {
        let state = self.lock();
        let bound = match state.phase {
            Phase::ReadingHeaders => limits.header_deadline,
            Phase::Idle => limits.idle_deadline,
            Phase::Running | Phase::HijackPromised | Phase::HijackBegun | Phase::HijackFlushed | Phase::HandedOver => {
                return state.send_by;
            }
        };
        let deadline = state.since + bound;
        Some(stopping.map_or(deadline, |began| deadline.min(began + LAST_REQUEST)))
    }

    /// Whether the client has connected or begun to send headers, and its request is not complete.
    pub(super) fn is_reading_headers(&self) -> bool {
        self.lock().phase == Phase::ReadingHeaders
    }

    /// Whether a response is being sent that must be sent by some time.
    pub(super) fn has_send_deadline(&self) -> bool {
        self.lock().send_by.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for ConnectionState {
    fn drop(&mut self) {
        self.budget.release(std::mem::take(&mut self.state.get_mut().header_bytes));
    }
}

/// One request, from the end of its headers until its response is sent or dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<ConnectionState>);

impl ActiveRequest {
    /// Counts a request whose headers are complete. The caller charges the request itself, in place of the bytes of its
    /// headers.
    pub(super) fn start(connection: &Arc<ConnectionState>) -> Self {
        let mut state = connection.lock();
        state.running += 1;
        state.unsent = true;
        state.apply(Event::RequestStarted);
        connection.budget.release(std::mem::take(&mut state.header_bytes));
        drop(state);
        Self(Arc::clone(connection))
    }

    /// Notes until when the response must be sent.
    pub(super) fn send_by(&self, by: Instant) {
        self.0.lock().send_by = Some(by);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let abandoned = self.0.lock().end_response();
        drop(abandoned);
    }
}

#[cfg(test)]
mod tests;
