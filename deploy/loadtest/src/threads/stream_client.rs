//! One client that reads the stream of a room, or that of all rooms of its user.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use rig::{Failure, Latencies, Result};

use crate::client::order_check::{OrderCheck, OrderViolations};
use crate::client::post_tag::PostTag;
use crate::client::response_parser::{MOST_REFUSAL_BYTES, ResponseParser};
use crate::client::sse_parser::{EventKind, SseEvent, SseParser};
use crate::client::user_check::UserCheck;
use crate::client::user_sse_parser::{UserEvent, UserSseParser};
use crate::target::Target;
use crate::threads::control::{Control, ReaderCounters};

/// A client and, while it is connected, its connection.
pub(crate) struct StreamClient {
    /// What it follows, and the check of the entries so far.
    pub(crate) followed: Followed,
    /// Latency is measured on this stream.
    pub(crate) is_sampled: bool,
    /// The connection; `None` while there is none.
    pub(crate) connection: Option<Connection>,
    /// Refusals in a row.
    pub(crate) refusals: u32,
    /// The client has caught up with the messages it missed.
    pub(crate) has_caught_up: bool,
    /// The client has stopped reading for good.
    pub(crate) is_stalled: bool,
}

/// What a client follows.
pub(crate) enum Followed {
    /// The stream of a room.
    Room {
        /// The room.
        room: usize,
        /// The check of its entries.
        order: OrderCheck,
    },
    /// The stream of all rooms of its user.
    AllRooms(UserCheck),
}

/// A connection and what has come over it.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// The stream is open: messages posted from here on will come.
    pub(crate) is_open: bool,
    request: Vec<u8>,
    sent: usize,
    response: ResponseParser,
    parser: StreamParser,
    refusal: Vec<u8>,
}

/// The parser of the events of a connection.
enum StreamParser {
    Room(SseParser),
    AllRooms(UserSseParser),
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
    pub(crate) fn new(followed: Followed, is_sampled: bool) -> Self {
        Self {
            followed,
            is_sampled,
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
            parser: match &self.followed {
                Followed::Room { .. } => StreamParser::Room(SseParser::new(self.is_sampled)),
                Followed::AllRooms(_) => StreamParser::AllRooms(UserSseParser::new(self.is_sampled)),
            },
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
        let times = match (self.is_sampled, observations.window) {
            (true, window) if window > 0 => observations.latencies.get_mut(window - 1),
            _ => None,
        };
        let mut observer = Observer {
            is_open,
            now,
            deliveries: &mut observations.counters.deliveries,
            typing_events: &mut observations.counters.typing_events,
            violations: &mut observations.counters.violations,
            times,
        };
        let followed = &mut self.followed;
        response.feed(bytes, |status, content| {
            if status != 200 {
                refusal
                    .extend_from_slice(&content[..content.len().min(MOST_REFUSAL_BYTES.saturating_sub(refusal.len()))]);
                return;
            }
            match (&mut *parser, &mut *followed) {
                (StreamParser::Room(parser), Followed::Room { order, .. }) => {
                    parser.feed(content, |event| observer.entry_of_room(&event, order));
                }
                (StreamParser::AllRooms(parser), Followed::AllRooms(check)) => {
                    parser.feed(content, |event| observer.entry_of_user(event, check));
                }
                // A connection has the parser of what its client follows.
                (StreamParser::Room(_), Followed::AllRooms(_)) | (StreamParser::AllRooms(_), Followed::Room { .. }) => {
                }
            }
        })?;
        // nchan sends no event that says so: its stream is open when the headers of the response have come.
        if response.status() == Some(200) && followed.is_open_with_headers() {
            *is_open = true;
        }
        Ok(())
    }
}

/// Notes what the events that have come in one read mean.
struct Observer<'a> {
    is_open: &'a mut bool,
    now: u64,
    deliveries: &'a mut u64,
    typing_events: &'a mut u64,
    violations: &'a mut OrderViolations,
    times: Option<&'a mut Latencies>,
}

impl Observer<'_> {
    #[inline]
    fn entry_of_room(&mut self, event: &SseEvent, order: &mut OrderCheck) {
        order.check(event, self.violations);
        self.note(event.kind, event.tag);
    }

    fn entry_of_user(&mut self, event: &UserEvent<'_>, check: &mut UserCheck) {
        check.check(event, self.violations);
        self.note(event.kind, event.tag);
    }

    #[inline]
    fn note(&mut self, kind: EventKind, tag: Option<PostTag>) {
        match kind {
            EventKind::Message => {
                *self.deliveries += 1;
                if let (Some(times), Some(tag)) = (&mut self.times, tag) {
                    times.record(self.now.saturating_sub(tag.posted_us));
                }
            }
            EventKind::Ready | EventKind::Reset => *self.is_open = true,
            EventKind::Typing => *self.typing_events += 1,
            EventKind::OtherEntry | EventKind::Rooms | EventKind::Ping | EventKind::Bye | EventKind::Unknown => {}
        }
    }
}

impl Followed {
    /// The request for the stream of `user` at `address`, from where the client has got to.
    pub(crate) fn request(&self, target: &Target, address: SocketAddr, user: usize) -> Vec<u8> {
        match self {
            Self::Room { room, order } => target.subscribe(address, *room, user, order.position()),
            Self::AllRooms(check) => target.subscribe_all(address, user, check.cursor()),
        }
    }

    /// How many messages the client lacks of those that the server has acknowledged in a room; of several rooms, in that in which it
    /// lacks most. A message may come before its post is acknowledged.
    pub(crate) fn behind(&self, control: &Control) -> u64 {
        match self {
            Self::Room { room, order } => control.acknowledged(*room).saturating_sub(order.reached()),
            Self::AllRooms(check) => check.behind(|room| control.acknowledged(room)),
        }
    }

    /// Whether the client lacks any of them.
    pub(crate) fn is_behind(&self, control: &Control) -> bool {
        match self {
            Self::Room { .. } => self.behind(control) > 0,
            Self::AllRooms(check) => check.is_behind(|room| control.acknowledged(room)),
        }
    }

    /// True if the server sends no event that says that the stream is open.
    fn is_open_with_headers(&self) -> bool {
        match self {
            Self::Room { order, .. } => !matches!(order, OrderCheck::Dense { .. }),
            Self::AllRooms(_) => false,
        }
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
