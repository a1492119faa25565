//! The accept loop around the poem endpoint: what one connection may cost, and how all of them end.
//!
//! poem's own server is not used: it never times out a half-sent head, spins when file descriptors run out, notices a
//! client that left only after two further writes, and at shutdown waits for open streams for ever or cuts them.
//!
//! Owned here: the listener, the number of connections, the reaction to accept errors. What connections have in common
//! is in `shared`; a single one is `connection`, the loop that watches it `drive`, its deadlines `activity`, its socket
//! `socket`, its requests `exchange`, the answers given without the endpoint `refusal`. Nothing here knows a route, a
//! user or a room. A handler may have the socket for the rest of its response: `takeover`.
//!
//! Not bounded here, because only the application can tell: how long a handler runs, how long a request body takes,
//! how many streams one user holds. And one known gap: an HTTP/2 client that answers pings but never opens the window
//! of one of its streams keeps that stream, whose body is then not asked for more.

mod activity;
mod connection;
mod drive;
mod exchange;
mod refusal;
mod shared;
mod socket;
mod takeover;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use poem::{EndpointExt, IntoEndpoint};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

pub(crate) use takeover::{Offer, Taken};

use refusal::Refusal;
use shared::Shared;

/// What the accept loop bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// Connections served at once, each one file descriptor. One more is answered with 503 `busy` and closed.
    pub(crate) max_connections: usize,
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

/// Serves `endpoint` on `listener` until `soft` is cancelled, and returns when every connection is gone.
///
/// At `soft` the listener closes, so that the kernel refuses new clients; idle connections close; a response under way
/// is finished and its connection closed after it, so endless streams must watch `soft` themselves. At `hard` what is
/// left is dropped in the middle.
///
/// A panic in the endpoint ends its connection (HTTP/1.1) or its request (HTTP/2) and nothing else.
pub(crate) async fn serve<E>(
    listener: TcpListener,
    endpoint: E,
    limits: ServerLimits,
    soft: CancellationToken,
    hard: CancellationToken,
) where
    E: IntoEndpoint,
    E::Endpoint: 'static,
{
    let tracker = TaskTracker::new();
    let app = endpoint.map_to_response().boxed();
    let shared = Shared::new(app, limits, soft.clone(), hard, tracker.clone());
    let mut door = Door::new(Arc::new(shared), limits.max_connections, MAX_REFUSALS);
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
                door.admit(stream, peer);
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
    drop((listener, door));
    tracker.close();
    tracker.wait().await;
}

/// Lets connections in while there is room, and turns the others away.
struct Door {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// Connections turned away since the last one was let in.
    turned_away: u64,
}

impl Door {
    fn new(shared: Arc<Shared>, places: usize, refusals: usize) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self {
            shared,
            places: semaphore(places),
            refusals: semaphore(refusals),
            turned_away: 0,
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            if self.turned_away > 0 {
                info!(connections.refused = self.turned_away, "accepting connections again");
                self.turned_away = 0;
            }
            self.shared.spawn(connection::run(Arc::clone(&self.shared), stream, peer, place));
            return;
        }
        if self.turned_away == 0 {
            warn!("the connection limit is reached: new connections get 503 until one ends");
        }
        self.turned_away += 1;
        if let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() {
            self.shared.spawn(async move {
                let _turn = turn;
                refusal::answer_first_request(stream, Refusal::Busy).await;
            });
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
