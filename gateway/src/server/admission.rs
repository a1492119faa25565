//! Admission of accepted connections: each is served, or refused because its address or the process has too many.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use shared::telemetry::LogEvent;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::client_budget::{ClientBudget, OverBudget};
use super::context::ServerContext;
use super::refusal::{self, Refusal};
use super::{TrustedPeers, connection};
use crate::client_network::network;

/// Refusals under way at once. Beyond it a connection is closed without an answer, so that refusals cannot themselves use up
/// the file descriptors.
const MAX_REFUSALS: usize = 64;

static CROWDED_ADDRESS: LogEvent = LogEvent::refusal(
    "too_many_connections",
    "an address has as many connections as it may have: further ones get 429 until one ends",
)
.warning();
static CROWDED: LogEvent =
    LogEvent::outage("connection_limit", "the connection limit is reached: new connections get 503 until one ends")
        .warning();

/// Serves connections while there are permits, and refuses the others.
pub(super) struct Admission {
    context: Arc<ServerContext>,
    are_trusted: TrustedPeers,
    permits: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new(context: ServerContext, are_trusted: TrustedPeers) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self {
            permits: semaphore(context.limits.max_connections),
            refusals: semaphore(MAX_REFUSALS),
            context: Arc::new(context),
            are_trusted,
        }
    }

    /// Serves a connection in a task of its own, or refuses it.
    pub(super) fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(client) = self.client_of(peer.ip()) else {
            CROWDED_ADDRESS.report(network(peer.ip()), "");
            return self.refuse(stream, Refusal::TooManyConnections);
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            CROWDED.report("", "");
            return self.refuse(stream, Refusal::Busy);
        };
        self.context.spawn(connection::run(Arc::clone(&self.context), stream, peer, client, permit));
    }

    /// Admits the connections that the kernel has accepted, and closes the listener.
    pub(super) fn admit_queued(&self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    self.admit(TcpStream::from_std(stream)?, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The client that a connection is counted for; nobody if its peer is a trusted proxy.
    fn client_of(&self, peer: IpAddr) -> Result<Option<ClientBudget>, OverBudget> {
        if (self.are_trusted)(peer) {
            return Ok(None);
        }
        let mut client = self.context.budgets.of(peer);
        client.connect()?;
        Ok(Some(client))
    }

    fn refuse(&self, stream: TcpStream, refusal: Refusal) {
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            let renderer = Arc::clone(&self.context.refusals);
            self.context.spawn(async move {
                let _permit = permit;
                refusal::answer_first_request(stream, refusal, &*renderer).await;
            });
        }
    }
}
