//! What is handed over by a hijack, and to whom.

use std::fmt::{self, Debug, Formatter};
use std::net::TcpStream;

use tokio::sync::OwnedSemaphorePermit;

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
