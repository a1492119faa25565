//! The socket of one connection: its TCP options, the protocol spoken over it, and the deadline of a stalled writer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::client_budget::OverBudget;
use super::connection_state::ConnectionState;

/// How an HTTP/2 connection begins when the client knows that we speak it (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The pause before a preface is peeked at again that comes in pieces, which no client in use sends.
const PIECEMEAL_PAUSE: Duration = Duration::from_millis(20);
/// A connection without traffic is probed after this, which also keeps address translators from forgetting it.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(1);
/// The time between two probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// Bytes that the kernel takes from us before it has sent them. By default Linux lets them grow with `tcp_wmem`: a
/// reader that had stopped held 3.5 MB of a stream, and with this 48 KiB, hyper's own buffer included.
#[cfg(target_os = "linux")]
const KERNEL_BACKLOG_BYTES: u32 = 32 * 1024;

/// The version of HTTP that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Sets the options of an accepted socket. `patience` is how long sent bytes may stay unacknowledged.
pub(super) fn configure(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    // Frames are small and written whole: Nagle's algorithm would hold each back until the last is acknowledged (40 ms).
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY))?;
    #[cfg(target_os = "linux")]
    {
        // Bytes already in the kernel are beyond our own write deadline; this is theirs. Elsewhere the keepalive finds
        // a dead peer, later.
        socket.set_tcp_user_timeout(Some(patience))?;
        socket.set_tcp_notsent_lowat(KERNEL_BACKLOG_BYTES)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = patience;
    Ok(())
}

/// Detects which protocol the client speaks, without reading anything from the socket.
///
/// Bytes are not read and replayed: hyper would get a first read of a few bytes and double its read buffer for the rest.
pub(super) async fn detect_protocol(stream: &TcpStream) -> io::Result<Protocol> {
    let mut start = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut start).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if start[..seen] != PREFACE[..seen] {
            return Ok(Protocol::Http1);
        }
        if seen == PREFACE.len() {
            return Ok(Protocol::Http2);
        }
        // The socket stays readable, so peeking cannot wait for the next byte.
        sleep(PIECEMEAL_PAUSE).await;
    }
}

/// The bytes that a new connection counts as having sent: what the accept itself costs, and what keeps an address that sends
/// too fast from going on over new connections.
const CONNECT_BYTES: usize = 512;

/// A TCP stream that gives up on a peer which takes nothing.
///
/// A blocked write, flush or shutdown arms a timer and any progress drops it. When it expires the connection is reset,
/// so that the kernel frees what it still holds for that peer.
///
/// Until a token was seen it reads no faster than its address may send.
///
/// For HTTP/1.1 it also withholds hyper's own answers to malformed requests, which are empty and cannot be configured: what
/// hyper writes while no response is owed is not sent, and whoever drives the connection answers instead.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    protocol: Protocol,
    state: Arc<ConnectionState>,
    write_stall: Duration,
    /// It exists while a write is blocked. Boxed: that is rare, and a timer is larger than all the rest.
    write_timer: Option<Pin<Box<Sleep>>>,
    /// It exists until more may be read.
    read_timer: Option<Pin<Box<Sleep>>>,
    withheld: bool,
    refused: Option<(OverBudget, Vec<u8>)>,
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        protocol: Protocol,
        state: Arc<ConnectionState>,
        write_stall: Duration,
    ) -> Self {
        let mut socket = Self {
            stream,
            protocol,
            state,
            write_stall,
            write_timer: None,
            read_timer: None,
            withheld: false,
            refused: None,
        };
        socket.count_read(CONNECT_BYTES);
        socket
    }

    /// Counts bytes that came in, after which the next may have to wait.
    fn count_read(&mut self, bytes: usize) {
        let wait = self.state.budget().read_delay(bytes);
        self.read_timer = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
    }

    /// Why no more of the headers was accepted, and what came last of them.
    pub(super) fn take_refused(&mut self) -> Option<(OverBudget, Vec<u8>)> {
        self.refused.take()
    }

    /// Makes the drop of the connection a reset, so that the kernel frees at once what it still holds for the client.
    pub(super) fn reset_on_drop(&self) {
        // If this fails, the connection is closed instead.
        let _ = self.stream.set_zero_linger();
    }

    /// Whether an answer of hyper's own was kept back, so that the client still waits for one.
    pub(super) fn has_withheld(&self) -> bool {
        self.withheld
    }

    /// The bare stream.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Returns the outcome of a write, or an error if the peer has taken nothing for too long.
    fn within_stall<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_timer = None;
            return outcome;
        }
        let patience = self.write_stall;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        self.reset_on_drop();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }

    /// Whether bytes written now are hyper's own answer to headers that it could not parse, which is remembered.
    fn withhold(&mut self) -> bool {
        let withhold = self.protocol == Protocol::Http1 && self.state.owes_nothing();
        self.withheld |= withhold;
        withhold
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let has_rate = self.state.budget().has_read_rate();
        if let Some(timer) = self.read_timer.as_mut().filter(|_| has_rate) {
            ready!(timer.as_mut().poll(cx));
        }
        self.read_timer = None;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        self.count_read(count);
        if self.protocol == Protocol::Http1
            && count > 0
            && let Err(over) = self.state.on_received(count)
        {
            // hyper forgets what comes with an error.
            self.refused = Some((over, buf.filled()[before..].to_vec()));
            return Poll::Ready(Err(io::Error::other("no room for the headers of a request")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.withhold() {
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.within_stall(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.withhold() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.within_stall(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes the socket only when its own buffer is empty (hyper 1.12, `Buffered::poll_flush`).
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        let outcome = self.within_stall(cx, outcome);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            self.state.on_flushed();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within_stall(cx, outcome)
    }
}
