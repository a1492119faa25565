//! One client that follows a room.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use rig::{Failure, Latencies, Result};

use crate::order::Order;
use crate::orders::Reading;
use crate::reply::{Reply, SHOWN};
use crate::scanner::{Kind, Scanner};

/// A client and, while it is connected, its connection.
pub(crate) struct Stream {
    /// The room it follows.
    pub(crate) room: usize,
    /// It is one of those whose messages' times are taken.
    pub(crate) is_sampled: bool,
    /// Messages of its room so far.
    pub(crate) order: Order,
    /// The connection; `None` while there is none.
    pub(crate) link: Option<Link>,
    /// Refusals in a row.
    pub(crate) refusals: u32,
    /// It has caught up with what it missed.
    pub(crate) has_caught_up: bool,
    /// It has stopped reading for good.
    pub(crate) is_stalled: bool,
}

/// A connection and what has come over it.
pub(crate) struct Link {
    pub(crate) socket: TcpStream,
    /// The stream is there: what is posted from now on will come.
    pub(crate) is_open: bool,
    request: Vec<u8>,
    sent: usize,
    reply: Reply,
    scanner: Scanner,
    refusal: Vec<u8>,
}

/// What one thread's clients see.
pub(crate) struct Sight {
    pub(crate) reading: Reading,
    /// Times from post to event of each window.
    pub(crate) latencies: Vec<Latencies>,
    /// Number of the window that is open, from 1; 0 for none.
    pub(crate) window: usize,
}

/// What a turn of a stream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is nothing more to read for now.
    Drained,
    /// There may be more.
    More,
    /// The connection is over.
    Over,
}

impl Stream {
    pub(crate) fn new(room: usize, order: Order, is_sampled: bool) -> Self {
        Self {
            room,
            is_sampled,
            order,
            link: None,
            refusals: 0,
            has_caught_up: false,
            is_stalled: false,
        }
    }

    /// Goes on over `socket`, which is being connected, and will send `request`.
    pub(crate) fn begin(&mut self, socket: TcpStream, request: Vec<u8>) {
        self.link = Some(Link {
            socket,
            is_open: false,
            request,
            sent: 0,
            reply: Reply::new(),
            scanner: Scanner::new(self.is_sampled),
            refusal: Vec::new(),
        });
    }

    /// Reads once into `buffer` and takes what has come at `now`, microseconds of the run's clock.
    pub(crate) fn read(&mut self, buffer: &mut [u8], now: impl Fn() -> u64, sight: &mut Sight) -> Result<Turn> {
        let Some(link) = &mut self.link else {
            return Ok(Turn::Drained);
        };
        let length = match link.socket.read(buffer) {
            Ok(0) => return Ok(Turn::Over),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Drained),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Turn::More),
            Err(error) => return Err(error.into()),
        };
        self.take(&buffer[..length], now(), sight)?;
        let is_over = self.link.as_ref().is_some_and(|link| link.reply.is_over());
        Ok(match () {
            () if is_over => Turn::Over,
            // A read that fills the buffer may have left something; one that does not has not.
            () if length == buffer.len() => Turn::More,
            () => Turn::Drained,
        })
    }

    fn take(&mut self, bytes: &[u8], now: u64, sight: &mut Sight) -> Result<()> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let Link {
            is_open,
            reply,
            scanner,
            refusal,
            ..
        } = link;
        let order = &mut self.order;
        let times = match (self.is_sampled, sight.window) {
            (true, window) if window > 0 => sight.latencies.get_mut(window - 1),
            _ => None,
        };
        let reading = &mut sight.reading;
        let mut times = times;
        reply.feed(bytes, |status, content| {
            if status != 200 {
                refusal.extend_from_slice(&content[..content.len().min(SHOWN.saturating_sub(refusal.len()))]);
                return;
            }
            scanner.feed(content, |event| {
                order.take(&event, &mut reading.faults);
                match event.kind {
                    Kind::Message => {
                        reading.deliveries += 1;
                        if let (Some(times), Some(stamp)) = (&mut times, event.stamp) {
                            times.record(now.saturating_sub(stamp.posted));
                        }
                    }
                    Kind::Ready | Kind::Reset => *is_open = true,
                    Kind::Ping | Kind::Bye | Kind::Unknown => {}
                }
            });
        })?;
        // Without events that say so, a stream is there when its head is.
        if reply.status() == Some(200) && !matches!(order, Order::Dense { .. }) {
            *is_open = true;
        }
        Ok(())
    }
}

impl Link {
    /// Sends what has not been sent of the request; true when all of it has.
    pub(crate) fn send(&mut self) -> Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error.into());
        }
        while self.sent < self.request.len() {
            match self.socket.write(&self.request[self.sent..]) {
                Ok(0) => return Err(Failure::new("the connection takes nothing")),
                Ok(length) => self.sent += length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// What the server answered instead of a stream.
    pub(crate) fn refusal(&self) -> Option<String> {
        let status = self.reply.status().filter(|status| *status != 200)?;
        Some(format!("{status} {}", String::from_utf8_lossy(&self.refusal)))
    }
}
