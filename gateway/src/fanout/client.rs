//! One connection: its socket, the segment that is being written, and whether the client is still there.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use mio::net::TcpStream;
use socket2::SockRef;

/// Bytes a client may send during its stream, where nothing is expected of it. A client that sends more is closed.
const MAX_INPUT_BYTES: usize = 64 * 1024;

/// What a chunked body ends with (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How far the stream of a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client follows its topics.
    Open,
    /// The last segment is being written; the end of the body follows.
    Ending,
    /// The end of the body is being written.
    Ended,
    /// Everything is sent, and the client is to close. Closing first could lose what the client has not read yet.
    Closing(Instant),
}

/// One client and its source.
pub(super) struct Client<S> {
    /// Its number among all that this thread ever had.
    pub(super) number: u64,
    pub(super) source: S,
    pub(super) phase: Phase,
    socket: TcpStream,
    /// What is left of the segment that is being written.
    unsent: Bytes,
    /// The socket is full, and the kernel has not reported yet that it accepts more.
    is_blocked: bool,
    /// Since when the socket accepts nothing of what is unsent.
    stalled_since: Option<Instant>,
    /// There is more to write than one turn allows, and another turn is due.
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
            socket,
            unsent: Bytes::new(),
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

    /// Since when the client reads nothing although there is something for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// Sets the segment to write next. The one before must have been written.
    pub(super) fn set_unsent(&mut self, segment: Bytes) {
        debug_assert!(self.unsent.is_empty(), "segments are written one after the other");
        self.unsent = segment;
    }

    /// Sets the end of the body to be written next.
    pub(super) fn set_last_chunk(&mut self) {
        self.set_unsent(Bytes::from_static(LAST_CHUNK));
    }

    /// Notes that the socket accepts more.
    pub(super) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Writes what is unsent; false if the socket did not accept all of it. The kernel reports when it accepts more, and
    /// the socket is left alone until then.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<bool> {
        if self.is_blocked {
            return Ok(false);
        }
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
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
        // Frees the memory also for clients that have nothing more to write for long.
        self.unsent = Bytes::new();
        Ok(true)
    }

    /// Closes our side: nothing more is sent.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Discards what the client sent; an error if it has left, or sends too much.
    pub(super) fn discard_input(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1_024];
        loop {
            match self.socket.read(&mut buffer) {
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

    /// Makes the kernel reset the connection when the client is dropped, and free at once what it still holds for it.
    pub(super) fn reset_on_drop(&self) {
        // If this fails the kernel frees it later.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}
