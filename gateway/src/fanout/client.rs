//! One connection: its socket, what is still to be written, and whether the client is there.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use mio::net::TcpStream;
use socket2::SockRef;

use super::Segment;

/// Bytes a client may send during its stream, where nothing is expected of it. One that sends more is not one of ours.
const MAX_INPUT_BYTES: usize = 64 * 1024;

/// What a chunked body ends with (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What a client is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Following.
    Open,
    /// The last segment is being written; the end of the body is to follow.
    Ending,
    /// The end of the body is being written.
    Ended,
    /// Everything is sent. The client closes now: were we first, what it has not read yet could be lost.
    Closing(Instant),
}

/// One client and its source.
pub(super) struct Client<S> {
    /// Its number among all that this thread ever had.
    pub(super) number: u64,
    pub(super) source: S,
    pub(super) phase: Phase,
    /// The slots of the topics it follows.
    pub(super) slots: Vec<usize>,
    socket: TcpStream,
    unsent: Segment,
    /// The socket has not taken all, and has not said yet that it takes more.
    is_blocked: bool,
    /// Since when it has taken nothing of what is unsent.
    stalled_since: Option<Instant>,
    /// It has more to write than one turn allows, and waits for another one.
    pub(super) is_busy: bool,
    discarded_bytes: usize,
    _permit: Box<dyn Send>,
}

impl<S> Client<S> {
    pub(super) fn new(number: u64, socket: TcpStream, permit: Box<dyn Send>, source: S) -> Self {
        Self {
            number,
            source,
            phase: Phase::Open,
            slots: Vec::new(),
            socket,
            unsent: Segment::default(),
            is_blocked: false,
            stalled_since: None,
            is_busy: false,
            discarded_bytes: 0,
            _permit: permit,
        }
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Since when the client has taken nothing although there is something for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// Has `segment` written next. Everything before must have been.
    pub(super) fn put(&mut self, segment: Segment) {
        debug_assert!(self.unsent.is_empty(), "segments are written one after the other");
        self.unsent = segment;
    }

    /// The same for the end of the body.
    pub(super) fn put_final_chunk(&mut self) {
        self.put(Segment::shared(Bytes::from_static(LAST_CHUNK)));
    }

    /// Notes that the socket takes more.
    pub(super) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Writes what is unsent; false if the socket did not take all of it. It says when it takes more, and is left alone
    /// until then.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<bool> {
        if self.is_blocked {
            return Ok(false);
        }
        while !self.unsent.is_empty() {
            match self.unsent.write_to(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.unsent.advance(count);
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    self.stalled_since.get_or_insert(now);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        // What was shared is given back, also by who has nothing more to write for long.
        self.unsent = Segment::default();
        Ok(true)
    }

    /// Says that nothing more is sent.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Throws away what the client sent; an error if it has left, or sends too much.
    pub(super) fn discard_input(&mut self) -> io::Result<()> {
        let mut waste = [0; 1_024];
        loop {
            match self.socket.read(&mut waste) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.discarded_bytes += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.discarded_bytes > MAX_INPUT_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    /// Has the connection reset when it is dropped, so that the kernel frees at once what it still holds for the client.
    pub(super) fn reset_on_drop(&self) {
        // Without it the kernel frees it later.
        let _ = SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Segment {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    fn write_to(&self, socket: &mut TcpStream) -> io::Result<usize> {
        match (self.own.is_empty(), self.shared.is_empty()) {
            (true, _) => socket.write(&self.shared),
            (false, true) => socket.write(&self.own),
            (false, false) => socket.write_vectored(&[IoSlice::new(&self.own), IoSlice::new(&self.shared)]),
        }
    }

    fn advance(&mut self, count: usize) {
        let of_own = count.min(self.own.len());
        self.own.advance(of_own);
        self.shared.advance(count - of_own);
    }
}
