//! The shutdown of a process: soft at the first signal, hard at the deadline, and at once at the second signal.
//!
//! `soft` means: accept nothing new, end streams, finish the batch. `hard` means: drop what is left. Work that must be waited for
//! runs in `tracker`. A task that the process cannot do without is spawned as essential: if it ends unasked, the process stops
//! and its exit code says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// The two stop signals of a process and its tasks in flight. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    /// Cancelled when the process should stop.
    pub soft: CancellationToken,
    /// Cancelled when the process must end at once.
    pub hard: CancellationToken,
    /// The tasks that must end before the process exits.
    pub tracker: TaskTracker,
    failed: Arc<AtomicBool>,
    forced: Arc<AtomicBool>,
}

/// How long a process may take to log why it ends at once, after the second signal.
const EXIT_WITHIN: Duration = Duration::from_millis(500);

impl Lifecycle {
    /// A lifecycle that nothing has stopped yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels `soft` at SIGTERM or SIGINT, and `hard` at a second one or `deadline` after `soft`.
    ///
    /// After the second signal the process ends within half a second, with exit code 1, even if something hangs. SIGHUP, which a
    /// closing terminal sends, is ignored: there are no settings to reload.
    ///
    /// It works in the background for the life of the process, which calls it once: in [`crate::bootstrap::begin`].
    pub fn watch_signals(&self, deadline: Duration) -> std::io::Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                info!("SIGHUP is ignored: settings are read at the start alone");
            }
        });
        let Self { soft, hard, forced, .. } = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => info!("stopping: SIGTERM"),
                _ = int.recv() => info!("stopping: SIGINT"),
                () = soft.cancelled() => {}
            }
            soft.cancel();
            let again = async {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
            };
            let deadline_passed = tokio::select! {
                () = again => false,
                () = tokio::time::sleep(deadline) => true,
            };
            if deadline_passed {
                warn!("stop deadline of {} s passed", deadline.as_secs());
                hard.cancel();
                return;
            }
            warn!("stopping at once: a second signal came");
            forced.store(true, Ordering::Release);
            hard.cancel();
            tokio::time::sleep(EXIT_WITHIN).await;
            exit_at_once();
        });
        Ok(())
    }

    /// Runs `task` for the life of the process. If it ends or panics before `soft`, the process stops as failed.
    pub fn spawn_essential(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (soft, failed) = (self.soft.clone(), Arc::clone(&self.failed));
        self.tracker.spawn(async move {
            let ended = tokio::spawn(task).await;
            if ended.is_err() || !soft.is_cancelled() {
                error!(task.name = name, "{name} ended unasked: stopping");
                failed.store(true, Ordering::Release);
                soft.cancel();
            }
        });
    }

    /// Whether an essential task ended unasked.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether a second signal came before the process had stopped.
    #[must_use]
    pub fn was_forced(&self) -> bool {
        self.forced.load(Ordering::Acquire)
    }

    /// Requests a soft stop and waits until every tracked task has ended, or until `hard`.
    pub async fn drain(&self) {
        self.soft.cancel();
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => {}
            () = self.hard.cancelled() => {}
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a second signal does not wait for what hangs, such as the closing of a connection"
)]
fn exit_at_once() -> ! {
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn essential_task_that_ends_unasked_fails_the_process() {
        for task in [true, false] {
            let lifecycle = Lifecycle::new();
            lifecycle.spawn_essential("a part", async move { assert!(task, "it panics") });
            lifecycle.soft.cancelled().await;
            lifecycle.drain().await;
            assert!(lifecycle.has_failed());
        }
    }

    #[tokio::test]
    async fn essential_task_that_ends_when_asked_is_no_failure() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft.clone();
        lifecycle.spawn_essential("a part", async move { soft.cancelled().await });
        lifecycle.drain().await;
        assert!(!lifecycle.has_failed());
    }

    #[tokio::test]
    async fn drain_ends_at_the_hard_stop() {
        let lifecycle = Lifecycle::new();
        lifecycle.tracker.spawn(std::future::pending::<()>());
        lifecycle.hard.cancel();
        timeout(Duration::from_secs(5), lifecycle.drain())
            .await
            .expect("the task that hangs is not waited for");
    }
}
