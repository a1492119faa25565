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
pub(crate) struct Taken {
    /// It does not block.
    pub(crate) socket: TcpStream,
    /// Its place among the connections of this process.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Who gets it.
pub(super) struct Taker(Box<dyn FnOnce(Taken) + Send>);

impl Taker {
    pub(super) fn take(self, taken: Taken) {
        (self.0)(taken);
    }
}

impl Debug for Taker {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Taker")
    }
}

/// Lies in the extensions of each request whose socket can be had.
#[derive(Clone)]
pub(crate) struct Offer(pub(super) Arc<Activity>);

impl Offer {
    /// A body that begins with `first`, whole frames of it; the rest is written by whoever `taker` gives the connection to.
    /// If it ends before that, `taker` is dropped.
    pub(crate) fn accept(self, first: Bytes, taker: impl FnOnce(Taken) + Send + 'static) -> Body {
        self.0.promise_to(Taker(Box::new(taker)));
        let silence = stream::poll_fn(move |_| {
            self.0.begun();
            Poll::Pending::<Option<io::Result<Bytes>>>
        });
        Body::from_bytes_stream(stream::iter([Ok(first)]).chain(silence))
    }
}

/// How far a connection is on its way to somebody else.
#[derive(Debug)]
pub(super) enum Takeover {
    /// Nobody wants it.
    None,
    /// To be handed over.
    Promised(Taker),
    /// hyper has everything it has to send.
    Begun(Taker),
    /// The kernel has it.
    Flushed(Taker),
}

impl Takeover {
    pub(super) fn begun(&mut self) {
        *self = match mem::replace(self, Self::None) {
            Self::Promised(taker) => Self::Begun(taker),
            other => other,
        };
    }

    pub(super) fn flushed(&mut self) {
        *self = match mem::replace(self, Self::None) {
            Self::Begun(taker) => Self::Flushed(taker),
            other => other,
        };
    }

    pub(super) fn taker(&mut self) -> Option<Taker> {
        match mem::replace(self, Self::None) {
            Self::Flushed(taker) => Some(taker),
            other => {
                *self = other;
                None
            }
        }
    }
}
