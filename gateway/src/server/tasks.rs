//! The tasks of the server: those of connections and refusals, and those in which hyper answers HTTP/2 requests.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::response_body::{SEND_PROGRESS, SendProgress};

/// Starts tasks that the server waits for and that end at the hard stop.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    hard: CancellationToken,
    tracker: TaskTracker,
}

impl Spawner {
    pub(super) fn new(hard: CancellationToken, tracker: TaskTracker) -> Self {
        Self { hard, tracker }
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
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

/// Runs the tasks in which hyper answers HTTP/2 requests. A task whose client does not take its response is dropped, which
/// resets that stream and leaves the others of its connection alone.
#[derive(Debug, Clone)]
pub(super) struct ResponseExecutor {
    spawner: Spawner,
    /// How long a piece of a response may wait for the client.
    stall: Duration,
}

impl ResponseExecutor {
    pub(super) fn new(spawner: Spawner, stall: Duration) -> Self {
        Self { spawner, stall }
    }
}

impl<F> Executor<F> for ResponseExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, work: F) {
        let (progress, stall) = (Arc::<SendProgress>::default(), self.stall);
        let mut work = Box::pin(SEND_PROGRESS.scope(Arc::clone(&progress), work));
        // It exists while a piece waits: that is rare, and a timer is large.
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        self.spawner.spawn(poll_fn(move |cx| {
            if work.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(deadline) = progress.deadline(stall) else {
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
