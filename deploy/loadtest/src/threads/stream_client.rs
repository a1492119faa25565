//! One client that reads the stream of a room.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use rig::{Failure, Latencies, Result};

use crate::client::order_check::OrderCheck;
use crate::client::response_parser::{MOST_REFUSAL_BYTES, ResponseParser};
use crate::client::sse_parser::{EventKind, SseParser};
use crate::threads::control::ReaderCounters;

/// A client and, while it is connected, its connection.
pub(crate) struct StreamClient {
    /// The room.
    pub(crate) room: usize,
    /// Latency is measured on this stream.
    pub(crate) is_sampled: bool,
    /// The check of the entries so far.
    pub(crate) order: OrderCheck,
    /// The connection; `None` while there is none.
    pub(crate) connection: Option<Connection>,
    /// Refusals in a row.
    pub(crate) refusals: u32,
    /// The client has caught up with the messages it missed.
    pub(crate) has_caught_up: bool,
    /// The client has stopped reading for good.
    pub(crate) is_stalled: bool,
}

/// A connection and what has come over it.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// The stream is open: messages posted from here on will come.
    pub(crate) is_open: bool,
    request: Vec<u8>,
    sent: usize,
    response: ResponseParser,
    parser: SseParser,
    refusal: Vec<u8>,
}

/// What the clients of a thread have observed.
pub(crate) struct Observations {
    pub(crate) counters: ReaderCounters,
    /// Times from post to event, one histogram for each window.
    pub(crate) latencies: Vec<Latencies>,
    /// Number of the current window, from 1; 0 outside of windows.
    pub(crate) window: usize,
}

/// Whether there is more to read after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// Nothing more to read for now.
    Drained,
    /// There may be more.
    More,
    /// The connection has ended.
    Closed,
}

impl StreamClient {
    pub(crate) fn new(room: usize, order: OrderCheck, is_sampled: bool) -> Self {
        Self {
            room,
            is_sampled,
            order,
            connection: None,
            refusals: 0,
            has_caught_up: false,
            is_stalled: false,
        }
    }

    /// Continues over `socket`, which is being connected, and sends `request` over it.
    pub(crate) fn connect_over(&mut self, socket: TcpStream, request: Vec<u8>) {
        self.connection = Some(Connection {
            socket,
            is_open: false,
            request,
            sent: 0,
            response: ResponseParser::new(),
            parser: SseParser::new(self.is_sampled),
            refusal: Vec::new(),
        });
    }

    /// Reads once into `buffer` and handles what was read at `now`, in microseconds of the run's clock.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        now: impl Fn() -> u64,
        observations: &mut Observations,
    ) -> Result<ReadOutcome> {
        let Some(connection) = &mut self.connection else {
            return Ok(ReadOutcome::Drained);
        };
        let length = match connection.socket.read(buffer) {
            Ok(0) => return Ok(ReadOutcome::Closed),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(ReadOutcome::More),
            Err(error) => return Err(error.into()),
        };
        self.handle(&buffer[..length], now(), observations)?;
        let is_over = self.connection.as_ref().is_some_and(|connection| connection.response.is_over());
        Ok(match () {
            () if is_over => ReadOutcome::Closed,
            // Only a read that fills the buffer may have left bytes behind.
            () if length == buffer.len() => ReadOutcome::More,
            () => ReadOutcome::Drained,
        })
    }

    fn handle(&mut self, bytes: &[u8], now: u64, observations: &mut Observations) -> Result<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let Connection {
            is_open,
            response,
            parser,
            refusal,
            ..
        } = connection;
        let order = &mut self.order;
        let mut times = match (self.is_sampled, observations.window) {
            (true, window) if window > 0 => observations.latencies.get_mut(window - 1),
            _ => None,
        };
        let counters = &mut observations.counters;
        response.feed(bytes, |status, content| {
            if status != 200 {
                refusal
                    .extend_from_slice(&content[..content.len().min(MOST_REFUSAL_BYTES.saturating_sub(refusal.len()))]);
                return;
            }
            parser.feed(content, |event| {
                order.check(&event, &mut counters.violations);
                match event.kind {
                    EventKind::Message => {
                        counters.deliveries += 1;
                        if let (Some(times), Some(tag)) = (&mut times, event.tag) {
                            times.record(now.saturating_sub(tag.posted_us));
                        }
                    }
                    EventKind::Ready | EventKind::Reset => *is_open = true,
                    EventKind::OtherEntry | EventKind::Ping | EventKind::Bye | EventKind::Unknown => {}
                }
            });
        })?;
        // nchan sends no event that says so: its stream is open when the headers of the response have come.
        if response.status() == Some(200) && !matches!(order, OrderCheck::Dense { .. }) {
            *is_open = true;
        }
        Ok(())
    }
}

impl Connection {
    /// Sends what is left of the request; true when all of it is sent.
    pub(crate) fn send(&mut self) -> Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error.into());
        }
        while self.sent < self.request.len() {
            match self.socket.write(&self.request[self.sent..]) {
                Ok(0) => return Err(Failure::new("the connection accepts no bytes")),
                Ok(length) => self.sent += length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// What the server answered if it refused the stream.
    pub(crate) fn refusal(&self) -> Option<String> {
        let status = self.response.status().filter(|status| *status != 200)?;
        Some(format!("{status} {}", String::from_utf8_lossy(&self.refusal)))
    }
}
