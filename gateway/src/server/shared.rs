//! What all connections have in common: the application, the bounds, hyper's settings and the stop signals.

use std::{sync::Arc, time::Duration};

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ServerLimits, exchange::App};

/// hyper's lower bound for the buffer of an HTTP/1.1 connection.
const SMALLEST_BUFFER: usize = 8192;
/// Bytes of a request body that an HTTP/2 client may send ahead of the handler; HTTP's own default.
const H2_STREAM_WINDOW: u32 = 65_535;
/// The same for all requests of a connection together, which bounds what one client can make us hold.
const H2_CONNECTION_WINDOW: u32 = 2 * H2_STREAM_WINDOW;
/// Bytes of one response that hyper keeps ready for an HTTP/2 stream (its default is 400 KiB).
const H2_SEND_BUFFER: usize = 16 * 1024;
/// How often an HTTP/2 client is asked for a sign of life, and how long it may take to answer.
const H2_PING: Duration = Duration::from_secs(20);

/// What all connections share.
pub(super) struct Shared {
    pub(super) app: Arc<App>,
    pub(super) limits: ServerLimits,
    pub(super) soft: CancellationToken,
    spawner: Spawner,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<Spawner>,
}

impl Shared {
    pub(super) fn new(
        app: App,
        limits: ServerLimits,
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
        let mut http2 = http2::Builder::new(spawner.clone());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_max_streams)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER)
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING);
        Self {
            app: Arc::new(app),
            limits,
            soft,
            spawner,
            http1,
            http2,
        }
    }

    /// Runs `work` until it ends or the hard stop drops it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawner.execute(work);
    }
}

/// Starts tasks that the server waits for and that end at the hard stop. hyper runs each HTTP/2 request in one.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    hard: CancellationToken,
    tracker: TaskTracker,
}

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
{
    fn execute(&self, work: F) {
        let hard = self.hard.clone();
        // Boxed, because an async block stores twice what it takes over and then awaits.
        let mut work = Box::pin(work);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = hard.cancelled() => {}
                _ = &mut work => {}
            }
        });
    }
}
