//! Checkpoints by time.
//!
//! SQLite makes one when a commit of the worker finds the write-ahead log long. While nothing is posted the worker commits nothing,
//! and gateways, which have callers waiting, make none before the log is very long: what they write would lie there.

use std::time::Duration;

use shared::storage::Store;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Gateways write some 10 MB a second at most: the log grows by that beyond the length at which it is cut.
const EVERY: Duration = Duration::from_secs(1);

/// Makes checkpoints of `store` until `stop` is cancelled.
pub async fn keep(store: Store, stop: CancellationToken) {
    let mut is_told = false;
    while !stop.is_cancelled() {
        match store.checkpoint().await {
            Ok(()) => is_told = false,
            Err(error) if !is_told => {
                warn!(error = %error, "cannot make a checkpoint, trying on: {error}");
                is_told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(EVERY) => {}
        }
    }
}
