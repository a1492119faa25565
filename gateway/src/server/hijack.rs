//! Handing the socket of an HTTP/1.1 connection to whoever answers a request, once the head of the response and its first
//! bytes are sent.
//!
//! The body yields those bytes and then nothing. When hyper has asked for more in vain and flushed what it had, the
//! kernel has everything, and the loop that drives the connection takes it apart. What the client sent ahead of time is
//! thrown away: the answer says that the connection closes after it.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use poem::Body;
use tokio::sync::OwnedSemaphorePermit;

use super::activity::Activity;

/// A connection in the middle of a chunked response.
pub(crate) struct HijackedSocket {
    /// It does not block.
    pub(crate) socket: TcpStream,
    /// Its place among the connections of this process.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Who gets it.
pub(super) struct HijackHandler(Box<dyn FnOnce(HijackedSocket) + Send>);

impl HijackHandler {
    pub(super) fn take(self, taken: HijackedSocket) {
        (self.0)(taken);
    }
}

impl Debug for HijackHandler {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("HijackHandler")
    }
}

/// Lies in the extensions of each request whose socket can be had.
#[derive(Clone)]
pub(crate) struct HijackOffer(pub(super) Arc<Activity>);

impl HijackOffer {
    /// A body that begins with `first`, whole frames of it; the rest is written by whoever `handler` gives the connection to.
    /// If it ends before that, `handler` is dropped.
    pub(crate) fn accept(self, first: Bytes, handler: impl FnOnce(HijackedSocket) + Send + 'static) -> Body {
        self.0.promise_to(HijackHandler(Box::new(handler)));
        let silence = stream::poll_fn(move |_| {
            self.0.begun();
            Poll::Pending::<Option<io::Result<Bytes>>>
        });
        Body::from_bytes_stream(stream::iter([Ok(first)]).chain(silence))
    }
}

/// How far a connection is on its way to somebody else.
#[derive(Debug)]
pub(super) enum HijackProgress {
    /// Nobody wants it.
    None,
    /// To be handed over.
    Promised(HijackHandler),
    /// hyper has everything it has to send.
    Begun(HijackHandler),
    /// The kernel has it.
    Flushed(HijackHandler),
}

impl HijackProgress {
    pub(super) fn begun(&mut self) {
        *self = match mem::replace(self, Self::None) {
            Self::Promised(handler) => Self::Begun(handler),
            other => other,
        };
    }

    pub(super) fn flushed(&mut self) {
        *self = match mem::replace(self, Self::None) {
            Self::Begun(handler) => Self::Flushed(handler),
            other => other,
        };
    }

    pub(super) fn handler(&mut self) -> Option<HijackHandler> {
        match mem::replace(self, Self::None) {
            Self::Flushed(handler) => Some(handler),
            other => {
                *self = other;
                None
            }
        }
    }
}
