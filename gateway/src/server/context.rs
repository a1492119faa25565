//! What all connections have in common: the application, the bounds, hyper's settings and the stop signals.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use http::HeaderMap;
use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ClientOf, ServerLimits,
    client_budget::{ClientBudget, ClientBudgets},
    refusal::RefusalRenderer,
    request_service::App,
    response_body::{SEND_PROGRESS, SendProgress},
};

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
/// Of so many connections one may speak HTTP/2, which without TLS proxies do, for many clients each. It takes three times
/// the memory of another one.
const H2_SHARE: usize = 8;
/// So many may at least.
const H2_LEAST: usize = 64;

/// What all connections share.
pub(super) struct ServerContext {
    pub(super) app: Arc<App>,
    pub(super) refusals: Arc<dyn RefusalRenderer>,
    pub(super) limits: ServerLimits,
    pub(super) soft: CancellationToken,
    pub(super) budgets: Arc<ClientBudgets>,
    pub(super) forwarded: ForwardedClients,
    http2_places: Arc<Semaphore>,
    http2_per_address: usize,
    spawner: Spawner,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<ResponseExecutor>,
}

/// Finds the account of the client behind a trusted proxy.
#[derive(Clone)]
pub(super) struct ForwardedClients {
    client_of: ClientOf,
    budgets: Arc<ClientBudgets>,
}

impl ForwardedClients {
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<ClientBudget> {
        (self.client_of)(peer.ip(), headers).map(|client| self.budgets.of(client))
    }
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
        let spawner = Spawner { hard, tracker };
        let mut http1 = http1::Builder::new();
        http1
            // A client that closes its sending half has left: its handler and its stream are dropped at once.
            .half_close(false)
            // `activity` keeps the deadlines.
            .header_read_timeout(None)
            .max_header_size(limits.max_header_bytes)
            .max_buf_size(limits.max_header_bytes.max(SMALLEST_BUFFER));
        let answers = ResponseExecutor {
            spawner: spawner.clone(),
            stall: limits.write_stall,
        };
        let mut http2 = http2::Builder::new(answers);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_max_streams)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER)
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING);
        let budgets = ClientBudgets::new(limits.connections_per_address);
        let multiplexed = (limits.max_connections / H2_SHARE).clamp(H2_LEAST, Semaphore::MAX_PERMITS);
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
            http2_places: Arc::new(Semaphore::new(multiplexed)),
            http2_per_address: multiplexed / 2,
            spawner,
            http1,
            http2,
        }
    }

    /// A place for a connection of HTTP/2, if there is one; an address may have half of them.
    pub(super) fn multiplex(&self, client: Option<&mut ClientBudget>) -> Option<OwnedSemaphorePermit> {
        if let Some(client) = client {
            client.multiplex(self.http2_per_address).ok()?;
        }
        Arc::clone(&self.http2_places).try_acquire_owned().ok()
    }

    /// Runs `work` until it ends or the hard stop drops it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawner.execute(work);
    }
}

/// Starts tasks that the server waits for and that end at the hard stop.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    hard: CancellationToken,
    tracker: TaskTracker,
}

impl Spawner {
    fn execute(&self, work: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        // Boxed, because an async block stores twice what it takes over and then awaits.
        let mut work = Box::pin(work);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = hard.cancelled() => {}
                () = &mut work => {}
            }
        });
    }
}

/// Runs the tasks in which hyper answers HTTP/2 requests. One whose client does not take its answer is dropped, which resets
/// that stream and leaves the others of its connection alone.
#[derive(Debug, Clone)]
pub(super) struct ResponseExecutor {
    spawner: Spawner,
    /// How long a piece of an answer may wait for the client.
    stall: Duration,
}

impl<F> Executor<F> for ResponseExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, work: F) {
        let (sending, stall) = (Arc::<SendProgress>::default(), self.stall);
        let mut work = Box::pin(SEND_PROGRESS.scope(Arc::clone(&sending), work));
        // There while a piece waits: that is rare, and a timer is large.
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        self.spawner.execute(poll_fn(move |cx| {
            if work.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(deadline) = sending.deadline(stall) else {
                timer = None;
                return Poll::Pending;
            };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(cx)
        }));
    }
}
