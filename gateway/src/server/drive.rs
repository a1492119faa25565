//! The loop that drives a hyper connection and keeps its deadlines, the same for both versions of HTTP.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until};

use super::connection_state::ConnectionState;
use super::context::ServerContext;
use super::hijack_handler::HijackHandler;
use super::request_service::RequestService;
use super::socket::Socket;
use super::tasks::ResponseExecutor;

pub(super) type Http1 = http1::Connection<TokioIo<Socket>, RequestService>;
pub(super) type Http2 = http2::Connection<TokioIo<Socket>, RequestService, ResponseExecutor>;

/// A connection of hyper, of either version.
pub(super) trait HyperConnection {
    /// Asks it to end after the requests that it has.
    fn begin_shutdown(&mut self);
    /// Runs it until it has ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
}

impl HyperConnection for Http1 {
    fn begin_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(cx)
    }
}

impl HyperConnection for Http2 {
    fn begin_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(self).poll(cx)
    }
}

/// How a connection came to its end.
pub(super) enum End {
    /// It ended in order, with everything sent.
    Complete,
    /// hyper gave it up.
    Failed(hyper::Error),
    /// A deadline of [`ConnectionState`] passed.
    Overdue,
    /// Its socket goes to this handler.
    Hijacked(HijackHandler),
}

/// Runs a connection, asks it to finish at the soft stop and gives it up at its deadline.
///
/// A connection that has not asked for anything yet when the server stops is served once: the kernel had accepted it, and its
/// client may have sent its request already.
///
/// There is one timer, and it is moved only when a deadline comes nearer: while requests run it fires now and then and the
/// deadline is looked up again. The last response of an HTTP/2 connection ends in another task, so an idle deadline can be
/// noticed up to its own length late there.
pub(super) async fn drive(
    context: &ServerContext,
    connection: &mut impl HyperConnection,
    state: &ConnectionState,
) -> End {
    let mut soft = pin!(context.soft.cancelled());
    let mut stopping = None;
    let mut shutting_down = false;
    let mut timer = pin!(sleep_until(Instant::now() + context.limits.header_deadline));
    poll_fn(|cx| {
        if stopping.is_none() && soft.as_mut().poll(cx).is_ready() {
            stopping = Some(Instant::now());
        }
        loop {
            // hyper would close a connection at once on which nothing has come yet.
            if stopping.is_some() && !shutting_down && !state.is_reading_headers() {
                shutting_down = true;
                connection.begin_shutdown();
            }
            match connection.poll_end(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(End::Complete),
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
                Poll::Pending if stopping.is_some() && !shutting_down && !state.is_reading_headers() => {}
                Poll::Pending => break,
            }
        }
        if let Some(hijacker) = state.take_hijacker() {
            return Poll::Ready(End::Hijacked(hijacker));
        }
        loop {
            let now = Instant::now();
            let deadline = state.deadline(&context.limits, stopping).unwrap_or(now + context.limits.idle_deadline);
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if deadline <= now {
                return Poll::Ready(End::Overdue);
            }
            timer.as_mut().reset(deadline);
        }
    })
    .await
}
