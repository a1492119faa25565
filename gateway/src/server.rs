//! The accept loop around the poem endpoint: what one connection may cost, and how all of them end.
//!
//! poem's own server is not used: it never times out a half-sent head, spins when file descriptors run out, notices a
//! client that left only after two further writes, and at shutdown waits for open streams for ever or cuts them.
//!
//! Owned here: the listener, the number of connections, the reaction to accept errors. What connections have in common
//! is in `context`; a single one is `connection`, the loop that watches it `drive`, its deadlines `activity`, its socket
//! `socket`, its requests `request_service`, their answers `response_body`, those given without the endpoint `refusal`. Nothing here knows
//! a route, a user or a room. A handler may have the socket for the rest of its response: `hijack`.
//!
//! Bytes in hand have budgets: those of requests that are not through, and those of answers that nobody has taken, for each
//! connection (`budget`), address and process (`client_budget`), and those of answers for each caller too, wherever from. A client behind a trusted proxy counts as its address.
//!
//! Not bounded here, because only the application can tell: how long a handler runs, how long a request body takes,
//! how many streams one user holds.

mod activity;
mod budget;
mod client_budget;
mod connection;
mod context;
mod drive;
mod hijack;
pub mod listen;
mod refusal;
mod request_service;
mod response_body;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::HeaderMap;
use poem::{EndpointExt, IntoEndpoint};
use shared::telemetry::Event;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

pub(crate) use budget::RequestBudget;
pub(crate) use client_budget::{OverBudget, REQUESTS};
pub(crate) use hijack::{HijackOffer, HijackedSocket};
pub(crate) use refusal::{Refusal, RefusalRenderer};

use client_budget::ClientBudget;
use context::ServerContext;

use crate::limits::network;

/// What the accept loop bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// Connections served at once, each one file descriptor. One more is answered with 503 `busy` and closed.
    pub(crate) max_connections: usize,
    /// Those of one address, trusted proxies aside; any number if 0. One more is answered with 429 `too_many_connections`. A
    /// client behind a trusted proxy may have as many requests under way.
    pub(crate) connections_per_address: usize,
    /// From the first byte of an HTTP/1.1 request head to its last. Then the connection is closed without an answer.
    pub(crate) header_deadline: Duration,
    /// From accepting to the first byte (of HTTP/2: to the end of its 24-byte preface). Then the connection is closed.
    pub(crate) first_byte_deadline: Duration,
    /// How long a connection may rest between requests. Above the 60 s after which common load balancers drop theirs,
    /// so that it is never this side that closes while the balancer sends the next request.
    pub(crate) idle_deadline: Duration,
    /// How long a peer may take nothing while bytes wait for it. Then the connection is reset.
    pub(crate) write_stall: Duration,
    /// Request line and headers together, in bytes. A larger head is answered with 431.
    pub(crate) max_header_bytes: usize,
    /// Requests in flight on one HTTP/2 connection; the client is told and holds further ones back.
    pub(crate) h2_max_streams: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            connections_per_address: 0,
            header_deadline: Duration::from_secs(10),
            first_byte_deadline: Duration::from_secs(5),
            idle_deadline: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            max_header_bytes: 16 * 1024,
            h2_max_streams: 64,
        }
    }
}

/// Refusals under way at once. Past it a connection too many is closed without a word, so that refusing cannot itself
/// use up the file descriptors.
const MAX_REFUSALS: usize = 64;

/// Finds the client that a request comes from, if its peer is a trusted proxy.
pub(crate) type ClientOf = Arc<dyn Fn(IpAddr, &HeaderMap) -> Option<IpAddr> + Send + Sync>;

/// Which peers are trusted proxies, and whom they forward for.
#[derive(Clone)]
pub(crate) struct Proxies {
    /// Whether a peer is one.
    pub(crate) are_trusted: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// The client behind it.
    pub(crate) client_of: ClientOf,
}

impl Proxies {
    /// There are none.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self {
            are_trusted: Arc::new(|_| false),
            client_of: Arc::new(|_, _| None),
        }
    }
}

/// Serves `endpoint` on `listener`, and lets `refusals` answer those who do not get so far, until `soft` is cancelled, and returns when every connection is gone.
///
/// At `soft` whoever the kernel has accepted already is let in and served once; then the listener closes, so that the kernel
/// refuses new clients. Idle connections close; a response under way is finished and its connection closed after it, so
/// endless streams must watch `soft` themselves. At `hard` what is left is dropped in the middle.
///
/// A panic in the endpoint ends its connection (HTTP/1.1) or its request (HTTP/2) and nothing else.
pub(crate) async fn serve<E>(
    listener: TcpListener,
    (endpoint, refusals): (E, Arc<dyn RefusalRenderer>),
    limits: ServerLimits,
    proxies: Proxies,
    soft: CancellationToken,
    hard: CancellationToken,
) where
    E: IntoEndpoint,
    E::Endpoint: 'static,
{
    let tracker = TaskTracker::new();
    let app = endpoint.map_to_response().boxed();
    let context = ServerContext::new((app, refusals), limits, proxies.client_of, soft.clone(), hard, tracker.clone());
    let admission = ConnectionAdmission {
        context: Arc::new(context),
        are_trusted: proxies.are_trusted,
        permits: semaphore(limits.max_connections),
        refusals: semaphore(MAX_REFUSALS),
    };
    let mut failures = AcceptFailures::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = soft.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failures.over();
                admission.admit(stream, peer);
            }
            Err(error) => {
                let pause = failures.note(&error);
                tokio::select! {
                    () = soft.cancelled() => break,
                    () = sleep(pause) => {}
                }
            }
        }
    }
    if let Err(error) = admission.admit_waiting(listener) {
        debug!(%error, "the queue of new connections could not be emptied");
    }
    drop(admission);
    tracker.close();
    tracker.wait().await;
}

/// Lets connections in while there is room, and turns the others away.
struct ConnectionAdmission {
    context: Arc<ServerContext>,
    are_trusted: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    permits: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

static CROWDED_ADDRESS: Event = Event::refusal(
    "too_many_connections",
    "an address has as many connections as it may have: further ones get 429 until one ends",
)
.warning();
static CROWDED: Event =
    Event::outage("connection_limit", "the connection limit is reached: new connections get 503 until one ends")
        .warning();

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

impl ConnectionAdmission {
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(client) = self.client_budget(peer.ip()) else {
            CROWDED_ADDRESS.report(network(peer.ip()), "");
            return self.turn_away(stream, Refusal::TooManyConnections);
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            CROWDED.report("", "");
            return self.turn_away(stream, Refusal::Busy);
        };
        self.context.spawn(connection::run(Arc::clone(&self.context), stream, peer, client, permit));
    }

    /// Whom a connection is counted for; nobody if it is that of a trusted proxy.
    fn client_budget(&self, peer: IpAddr) -> Result<Option<ClientBudget>, OverBudget> {
        if (self.are_trusted)(peer) {
            return Ok(None);
        }
        let mut client = self.context.budgets.of(peer);
        client.connect()?;
        Ok(Some(client))
    }

    fn turn_away(&self, stream: TcpStream, refusal: Refusal) {
        if let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() {
            let refusals = Arc::clone(&self.context.refusals);
            self.context.spawn(async move {
                let _turn = turn;
                refusal::answer_first_request(stream, refusal, &*refusals).await;
            });
        }
    }

    /// Lets those in whom the kernel has accepted, and closes the listener.
    fn admit_waiting(&self, listener: TcpListener) -> io::Result<()> {
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
}

/// A run of failed accepts: logged at its start and its end, slower with every failure.
///
/// Running out of file descriptors (EMFILE, ENFILE) is the one that matters: the waiting connection stays in the
/// kernel's queue, so accept fails again at once and a loop without a pause takes a whole core.
#[derive(Debug, Default)]
struct AcceptFailures {
    /// Failures since the last accept that worked.
    count: u64,
    /// The pause after the last failure.
    pause: Duration,
}

impl AcceptFailures {
    const SHORTEST: Duration = Duration::from_millis(5);
    /// The longest a new client waits after descriptors have become free again.
    const LONGEST: Duration = Duration::from_secs(1);

    /// Counts a failure and returns how long to wait before the next accept.
    ///
    /// The failure of a single connection that ended while it was in the queue is no reason to wait.
    fn note(&mut self, error: &io::Error) -> Duration {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return Duration::ZERO;
        }
        if self.count == 0 {
            warn!(%error, "accepting connections fails");
        }
        self.count += 1;
        self.pause = (self.pause * 2).clamp(Self::SHORTEST, Self::LONGEST);
        self.pause
    }

    /// Ends the run: an accept worked.
    fn over(&mut self) {
        if self.count > 0 {
            info!(accept.failures = self.count, "accepting connections works again");
            *self = Self::default();
        }
    }
}
