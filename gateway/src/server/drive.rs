//! The loop that runs a connection and watches over it, the same for both versions of HTTP.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until};

use super::{
    activity::Activity,
    context::{ResponseExecutor, ServerContext},
    hijack::HijackHandler,
    request_service::RequestService,
    socket::Socket,
};

pub(super) type Http1 = http1::Connection<TokioIo<Socket>, RequestService>;
pub(super) type Http2 = http2::Connection<TokioIo<Socket>, RequestService, ResponseExecutor>;

/// A connection of hyper, of either version.
pub(super) trait HyperConnection {
    /// Asks it to end after what it is doing.
    fn finish(&mut self);
    /// Goes on until it has ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
}

impl HyperConnection for Http1 {
    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(cx)
    }
}

impl HyperConnection for Http2 {
    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(self).poll(cx)
    }
}

/// How a connection came to its end.
pub(super) enum End {
    /// In order, with everything sent.
    Complete,
    Failed(hyper::Error),
    /// By a deadline of `Activity`, with nothing owed to the client.
    Overdue,
    /// Somebody else goes on with it.
    Hijacked(HijackHandler),
}

/// Runs a connection, asks it to finish at the soft stop and gives it up at its deadline.
///
/// A connection that has not asked for anything yet when the server stops is served once: the kernel had accepted it, and its
/// client may have sent its request already.
///
/// One timer, moved only when a deadline comes nearer: while requests run it just fires now and then to look again. The
/// last response of an HTTP/2 connection ends in another task, so there an idle deadline can be seen up to its own length late.
pub(super) async fn drive(context: &ServerContext, connection: &mut impl HyperConnection, activity: &Activity) -> End {
    let mut soft = pin!(context.soft.cancelled());
    let mut stopping = None;
    let mut finished = false;
    let mut timer = pin!(sleep_until(Instant::now() + context.limits.header_deadline));
    poll_fn(|cx| {
        if stopping.is_none() && soft.as_mut().poll(cx).is_ready() {
            stopping = Some(Instant::now());
        }
        loop {
            // hyper would close a connection at once on which nothing has come yet.
            if stopping.is_some() && !finished && !activity.is_about_to_ask() {
                finished = true;
                connection.finish();
            }
            match connection.poll_end(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(End::Complete),
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
                Poll::Pending if stopping.is_some() && !finished && !activity.is_about_to_ask() => {}
                Poll::Pending => break,
            }
        }
        if let Some(handler) = activity.handler() {
            return Poll::Ready(End::Hijacked(handler));
        }
        loop {
            let now = Instant::now();
            let deadline = activity.deadline(&context.limits, stopping).unwrap_or(now + context.limits.idle_deadline);
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
