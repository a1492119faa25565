//! Checkpoints SQLite's write-ahead log every second.
//!
//! SQLite makes a checkpoint when a commit of the worker finds the write-ahead log long. While nothing is posted the worker commits
//! nothing, and gateways, which have callers waiting, make none before the log is very long: what they write would stay there.

use std::time::Duration;

use shared::storage::Store;
use shared::telemetry::FailureSeries;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Gateways write some 10 MB a second at most: the log grows by that beyond the length at which it is truncated.
const INTERVAL: Duration = Duration::from_secs(1);

/// Makes checkpoints of `store` until `stop` is cancelled.
pub async fn run(store: Store, stop: CancellationToken) {
    let mut failures = FailureSeries::default();
    while !stop.is_cancelled() {
        match store.checkpoint().await {
            Ok(()) => {
                failures.recovered();
            }
            Err(error) => {
                if failures.failed() {
                    warn!(error = %error, "cannot make a checkpoint, retrying: {error}");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(INTERVAL) => {}
        }
    }
}
