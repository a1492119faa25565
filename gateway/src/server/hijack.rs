//! Connection hijack: the socket of an HTTP/1.1 connection goes to the handler of a request, once the headers of its response
//! and its first bytes are sent.
//!
//! The response body yields those bytes and then nothing. When hyper has asked for more in vain and flushed what it had, the
//! kernel has everything, and the loop that drives the connection takes it apart. What the client sent ahead of time is
//! discarded: the response says that the connection closes after it. `connection_state` has the steps.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use poem::Body;

use super::connection_state::ConnectionState;
use super::hijack_handler::{HijackHandler, HijackedSocket};

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
