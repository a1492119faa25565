//! What all connections share: the application, the bounds, hyper's settings and the stop signals.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client_budget::{ClientBudget, ClientBudgets};
use super::forwarded_clients::ForwardedClients;
use super::refusal::RefusalRenderer;
use super::request_service::App;
use super::tasks::{ResponseExecutor, Spawner};
use super::{ClientOf, ServerLimits};

/// hyper's lower bound for the buffer of an HTTP/1.1 connection.
const SMALLEST_BUFFER: usize = 8192;
/// Bytes of a request body that an HTTP/2 client may send ahead of the handler: an ordinary body whole.
const H2_STREAM_WINDOW: u32 = 16 * 1024;
/// The same for all requests of a connection together, which bounds what one client can make us hold before any of it is
/// charged for; the smallest that HTTP/2 knows.
const H2_CONNECTION_WINDOW: u32 = 65_535;
/// Bytes of one response that hyper keeps ready for an HTTP/2 stream (its default is 400 KiB).
const H2_SEND_BUFFER: usize = 16 * 1024;
/// How often an HTTP/2 client is asked for a sign of life, and how long it may take to answer.
const H2_PING: Duration = Duration::from_secs(20);
/// One of so many connections may speak HTTP/2, which without TLS proxies do, for many clients each. It takes three times
/// the memory of another one.
const H2_SHARE: usize = 8;
/// At least so many connections may speak HTTP/2.
const H2_LEAST: usize = 64;

/// What all connections share.
pub(super) struct ServerContext {
    pub(super) app: Arc<App>,
    pub(super) refusals: Arc<dyn RefusalRenderer>,
    pub(super) limits: ServerLimits,
    pub(super) soft: CancellationToken,
    pub(super) budgets: Arc<ClientBudgets>,
    pub(super) forwarded: ForwardedClients,
    http2_permits: Arc<Semaphore>,
    http2_per_address: usize,
    spawner: Spawner,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<ResponseExecutor>,
}

impl ServerContext {
    pub(super) fn new(
        (app, refusals): (App, Arc<dyn RefusalRenderer>),
        limits: ServerLimits,
        client_of: ClientOf,
        soft: CancellationToken,
        hard: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        let spawner = Spawner::new(hard, tracker);
        let budgets = ClientBudgets::new(limits.connections_per_address);
        let http2_connections = (limits.max_connections / H2_SHARE).clamp(H2_LEAST, Semaphore::MAX_PERMITS);
        Self {
            app: Arc::new(app),
            refusals,
            limits,
            soft,
            forwarded: ForwardedClients {
                client_of,
                budgets: Arc::clone(&budgets),
            },
            budgets,
            http2_permits: Arc::new(Semaphore::new(http2_connections)),
            http2_per_address: http2_connections / 2,
            http1: http1_builder(&limits),
            http2: http2_builder(&limits, ResponseExecutor::new(spawner.clone(), limits.write_stall)),
            spawner,
        }
    }

    /// A permit for a connection of HTTP/2, if one is left; an address may have half of them.
    pub(super) fn acquire_http2(&self, client: Option<&mut ClientBudget>) -> Option<OwnedSemaphorePermit> {
        if let Some(client) = client {
            client.connect_http2(self.http2_per_address).ok()?;
        }
        Arc::clone(&self.http2_permits).try_acquire_owned().ok()
    }

    /// Runs `work` until it ends or the hard stop drops it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn(work);
    }
}

fn http1_builder(limits: &ServerLimits) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        // A client that closes its sending half has left: its handler and its stream are dropped at once.
        .half_close(false)
        // `connection_state` keeps the deadlines.
        .header_read_timeout(None)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(SMALLEST_BUFFER));
    http1
}

fn http2_builder(limits: &ServerLimits, executor: ResponseExecutor) -> http2::Builder<ResponseExecutor> {
    let mut http2 = http2::Builder::new(executor);
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING);
    http2
}
