//! Connection hijack: the socket of an HTTP/1.1 connection goes to the handler of a request, once the head of its response
//! and its first bytes are sent.
//!
//! The response body yields those bytes and then nothing. When hyper has asked for more in vain and flushed what it had, the
//! kernel has everything, and the loop that drives the connection takes it apart. What the client sent ahead of time is
//! discarded: the response says that the connection closes after it. `connection_state` has the steps.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use poem::Body;
use tokio::sync::OwnedSemaphorePermit;

use super::connection_state::ConnectionState;

/// A connection in the middle of a chunked response.
pub(crate) struct HijackedSocket {
    /// It does not block.
    pub(crate) socket: TcpStream,
    /// Counts the connection among those of this process.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Who gets a hijacked socket.
pub(super) struct HijackHandler(Box<dyn FnOnce(HijackedSocket) + Send>);

impl HijackHandler {
    pub(super) fn new(handler: impl FnOnce(HijackedSocket) + Send + 'static) -> Self {
        Self(Box::new(handler))
    }

    pub(super) fn run(self, socket: HijackedSocket) {
        (self.0)(socket);
    }
}

impl Debug for HijackHandler {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("HijackHandler")
    }
}

/// Permission to take the socket of a request's connection. It is in the extensions of each request whose socket can be taken.
#[derive(Clone)]
pub(crate) struct HijackOffer(pub(super) Arc<ConnectionState>);

impl HijackOffer {
    /// A body that begins with `first`, whole frames of it. `handler` gets the connection and writes the rest; if the response
    /// ends before that, `handler` is dropped.
    pub(crate) fn accept(self, first: Bytes, handler: impl FnOnce(HijackedSocket) + Send + 'static) -> Body {
        self.0.promise_socket(HijackHandler::new(handler));
        let silence = stream::poll_fn(move |_| {
            self.0.on_beginning_read();
            Poll::Pending::<Option<io::Result<Bytes>>>
        });
        Body::from_bytes_stream(stream::iter([Ok(first)]).chain(silence))
    }
}
