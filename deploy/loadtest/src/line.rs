//! One connection that asks and is answered, over and over.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use rig::{Failure, Result};

use crate::reply::{Reply, SHOWN};
use crate::script::Script;
use crate::site::Request;
use crate::stamp::Stamp;

/// A caller's place in the run, and its connection.
pub(crate) struct Line {
    /// Number of this one among those of the same room.
    lane: u64,
    /// What it asks in turn, and how often each was, the one on its way included.
    requests: Vec<(Request, u64)>,
    /// Which of them comes now.
    next: usize,
    /// Time between two requests, in microseconds; `None` for as fast as they are answered.
    pub(crate) every_us: Option<u64>,
    /// What it is answered is not counted.
    pub(crate) is_aside: bool,
    /// When it asks next by its pace, whenever it really does; microseconds of the run's clock.
    pub(crate) due: u64,
    /// Requests that were asked and not refused.
    pub(crate) asked: u64,
    /// `None` before the first connection and after one that broke.
    pub(crate) socket: Option<TcpStream>,
    pub(crate) state: State,
    reply: Reply,
    /// Bytes of the answer's content so far.
    content: usize,
    refusal: Vec<u8>,
}

/// What a line is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being connected.
    Connecting,
    /// It may ask.
    Idle,
    /// So many bytes of the request have been sent, which was due at this time (microseconds).
    Sending { sent: usize, due: u64 },
    /// It waits for the answer to what was due then.
    Waiting { due: u64 },
}

/// A whole answer.
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// The room that was asked for.
    pub(crate) room: usize,
    /// It was a post.
    pub(crate) is_post: bool,
    /// It was shorter than what was asked for.
    pub(crate) is_short: bool,
    /// When the request was due.
    pub(crate) due: u64,
    /// What a refusal said.
    pub(crate) refusal: String,
}

impl Line {
    /// One that asks what stands in `script`, for the first time at `due`.
    pub(crate) fn new(script: Script, due: u64) -> Self {
        Self {
            lane: script.lane,
            requests: script.requests.into_iter().map(|request| (request, 0)).collect(),
            next: 0,
            every_us: script.every_us,
            is_aside: script.is_aside,
            due,
            asked: 0,
            socket: None,
            state: State::Connecting,
            reply: Reply::new(),
            content: 0,
            refusal: Vec::new(),
        }
    }

    /// A request is on its way.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, State::Sending { .. } | State::Waiting { .. })
    }

    /// Goes on over a new connection.
    pub(crate) fn begin(&mut self, socket: TcpStream) {
        self.socket = Some(socket);
        self.state = State::Connecting;
        self.reply = Reply::new();
        self.content = 0;
    }

    /// Ends the connection. What was on its way may have been accepted: it counts as asked, and its number is not used again.
    pub(crate) fn end(&mut self) {
        self.socket = None;
        self.state = State::Connecting;
    }

    /// Asks what comes next; it was due at `due`, microseconds of the run's clock.
    pub(crate) fn ask(&mut self, due: u64) -> Result<()> {
        let (request, count) = &mut self.requests[self.next];
        *count += 1;
        self.asked += 1;
        request.renew(Stamp {
            lane: self.lane,
            count: *count,
            posted: due,
        });
        self.state = State::Sending { sent: 0, due };
        self.send()
    }

    /// Goes on with what could not be sent at once.
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
                Ok(0) => return Err(Failure::new("the connection takes nothing")),
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

    /// Reads what has come; an answer if one is complete. Two never come at once, since the second is asked for after the
    /// first.
    pub(crate) fn read(&mut self, buffer: &mut [u8], is_accepted: impl Fn(u16) -> bool) -> Result<Option<Answered>> {
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
                return Err(Failure::new("an answer to nothing"));
            };
            let (refusal, length_so_far) = (&mut self.refusal, &mut self.content);
            self.reply.feed(&buffer[..length], |status, content| {
                *length_so_far += content.len();
                if !is_accepted(status) {
                    refusal.extend_from_slice(&content[..content.len().min(SHOWN.saturating_sub(refusal.len()))]);
                }
            })?;
            if self.reply.is_over() {
                return Ok(Some(self.finish(due, is_accepted)));
            }
        }
    }

    fn finish(&mut self, due: u64, is_accepted: impl Fn(u16) -> bool) -> Answered {
        let status = self.reply.status().unwrap_or(0);
        self.reply = Reply::new();
        self.state = State::Idle;
        let (request, count) = &mut self.requests[self.next];
        let (room, is_post) = (request.room, request.is_post());
        let is_short = std::mem::take(&mut self.content) < request.least;
        if is_accepted(status) {
            self.next = (self.next + 1) % self.requests.len();
        } else {
            // The same message is posted again.
            *count -= 1;
            self.asked -= 1;
        }
        Answered {
            status,
            room,
            is_post,
            is_short,
            due,
            refusal: String::from_utf8_lossy(&std::mem::take(&mut self.refusal)).into_owned(),
        }
    }
}
