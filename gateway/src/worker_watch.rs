//! Worker watch: warns when no worker stores what is posted to this gateway.
//!
//! A worker on another database or another Redis belongs to another installation, and this gateway never meets it: both run,
//! and what is posted waits. The warning tells the operator which two settings to compare.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::InstallationId;
use shared::telemetry::FailureSeries;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::accept::Acceptor;

/// How often Redis is asked for workers.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// How long there may be none before a warning: longer than a restart of a worker or a claim of its partitions takes.
const MAX_ABSENCE: Duration = Duration::from_secs(10);

/// Warns while no worker lives, once each time, until `stop` is cancelled.
pub(crate) async fn watch(acceptor: Arc<Acceptor>, installation: InstallationId, stop: CancellationToken) {
    let (mut last_seen, mut absence) = (Instant::now(), FailureSeries::default());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(CHECK_EVERY) => {}
        }
        match acceptor.sees_workers().await {
            Ok(true) => {
                last_seen = Instant::now();
                if absence.recovered() {
                    info!(installation.id = %installation, "a worker of installation {installation} is back");
                }
            }
            Ok(false) if last_seen.elapsed() >= MAX_ABSENCE && absence.failed() => {
                warn!(
                    installation.id = %installation,
                    "no worker of installation {installation} is on this Redis, what is posted waits: start one with the \
                     same DATABASE_URL and REDIS_URL; the first line of its log names its installation"
                );
            }
            // An outage of Redis is reported elsewhere.
            Ok(false) | Err(_) => {}
        }
    }
}
