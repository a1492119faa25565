//! HTTP server around the poem endpoint: accepts connections, bounds what each client and the process hold, and stops softly
//! or hard.
//!
//! ```text
//! listener ──► admission ──► connection ──► drive (hyper) ──► request_service ──► endpoint
//!                  │              │             │                    │
//!               refusal        socket   connection_state       response_body
//! ```
//!
//! poem's own server is not used: it never times out half-sent headers, spins when file descriptors run out, notices a
//! client that left only after two further writes, and at shutdown waits for open streams for ever or cuts them.
//!
//! Bytes have budgets: those of unfinished requests and those of unsent responses, for each connection
//! (`connection_budget`), address and process (`client_budget`), and those of responses for each caller too, from whatever
//! address. A client behind a trusted proxy counts as its address. A handler may take the socket for the rest of its
//! response: `hijack`.
//!
//! The server knows no route, no user and no room. It does not bound how long a handler runs, how long a request body takes
//! and how many streams one user holds, because only the application can tell.

mod accept_failures;
mod admission;
mod client_budget;
mod connection;
mod connection_budget;
mod connection_state;
mod context;
mod drive;
mod forwarded_clients;
mod hijack;
mod hijack_handler;
mod refusal;
mod request_budget;
mod request_service;
mod response_body;
mod socket;
mod tasks;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use poem::{EndpointExt, IntoEndpoint};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

pub(crate) use client_budget::{OverBudget, REQUESTS};
pub(crate) use hijack::HijackOffer;
pub(crate) use hijack_handler::HijackedSocket;
pub(crate) use refusal::{Refusal, RefusalRenderer};
pub(crate) use request_budget::RequestBudget;

use accept_failures::AcceptFailures;
use admission::Admission;
use context::ServerContext;

/// What the server bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// Connections served at once, each one file descriptor. One more is answered with 503 `busy` and closed.
    pub(crate) max_connections: usize,
    /// Connections of one address, trusted proxies aside; any number if 0. One more is answered with 429
    /// `too_many_connections`. A client behind a trusted proxy may have as many requests under way.
    pub(crate) connections_per_address: usize,
    /// From the first byte of the headers of an HTTP/1.1 request to their last. Then the connection is closed without an
    /// answer.
    pub(crate) header_deadline: Duration,
    /// From accepting to the first byte (of HTTP/2: to the end of its 24-byte preface). Then the connection is closed.
    pub(crate) first_byte_deadline: Duration,
    /// How long a connection may rest between requests. Above the 60 s after which common load balancers drop theirs,
    /// so that it is never this side that closes while the balancer sends the next request.
    pub(crate) idle_deadline: Duration,
    /// How long a peer may take nothing while bytes wait for it. Then the connection is reset.
    pub(crate) write_stall: Duration,
    /// Request line and headers together, in bytes. More is answered with 431.
    pub(crate) max_header_bytes: usize,
    /// Requests in flight on one HTTP/2 connection; the client learns the limit and holds further ones back.
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

/// Tells whether a peer is a trusted proxy.
pub(crate) type TrustedPeers = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Finds the client that a request comes from, if its peer is a trusted proxy.
pub(crate) type ClientOf = Arc<dyn Fn(IpAddr, &HeaderMap) -> Option<IpAddr> + Send + Sync>;

/// Which peers are trusted proxies, and for whom they forward.
#[derive(Clone)]
pub(crate) struct Proxies {
    pub(crate) are_trusted: TrustedPeers,
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

/// Serves `endpoint` on `listener` until `soft` is cancelled, and returns when every connection has ended. `refusals` renders
/// the answers to clients whose requests do not reach the endpoint.
///
/// At `soft` the connections that the kernel has accepted already are admitted and served once; then the listener closes, so
/// that the kernel refuses new clients. Idle connections close; a response under way is finished and its connection closed
/// after it, so endless streams must watch `soft` themselves. At `hard` what is left is dropped in the middle.
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
    let admission = Admission::new(context, proxies.are_trusted);
    let mut failures = AcceptFailures::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = soft.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failures.on_success();
                admission.admit(stream, peer);
            }
            Err(error) => {
                let pause = failures.on_failure(&error);
                tokio::select! {
                    () = soft.cancelled() => break,
                    () = sleep(pause) => {}
                }
            }
        }
    }
    if let Err(error) = admission.admit_queued(listener) {
        debug!(%error, "the queue of new connections could not be emptied");
    }
    drop(admission);
    tracker.close();
    tracker.wait().await;
}
