//! The events that the reducer applies.

use shared::storage::PartitionBatch;
use tokio::time::Instant;

use crate::log_reader::BatchServers;
use crate::ownership::View;
use crate::ownership::claimer::{Claimed, StorageUnavailable};
use crate::ownership::fence_poller::Fences;
use crate::persist::Persisted;
use crate::publications::ReceiptRequests;

/// What happened.
pub(super) enum Event {
    /// The loop begins.
    Started,
    /// The process should stop.
    StopRequested,
    /// A claim ended; it holds nothing if it failed and is to be tried again.
    Claimed(Claimed),
    /// Claims have been failing for too long.
    ClaimsFail,
    /// The fences of all partitions in SQL; empty if there was no answer.
    FencesPolled(Fences),
    /// The registry has a new view, or the present one may have expired.
    ViewChanged,
    /// The log reader has entries.
    Read {
        /// Where they come from.
        servers: BatchServers,
        /// The entries by partition.
        batches: Vec<PartitionBatch>,
    },
    /// A task of the log reader panicked.
    ReaderFailed,
    /// A transaction ended.
    Committed {
        /// What became of it.
        persisted: Persisted,
        /// Which gateways wait for its messages.
        receipt_requests: ReceiptRequests,
    },
    /// The pause after a full transaction is over.
    Paused,
    /// The gateways know of the partitions that were claimed, or could not be reached.
    Announced,
    /// Everything that was committed is published.
    PublishingFinished,
    /// This worker has left the registry.
    Left,
    /// Storage was asked whether it answers.
    StorageChecked {
        /// Whether it did.
        answers: bool,
    },
}

impl From<StorageUnavailable> for Event {
    fn from(_: StorageUnavailable) -> Self {
        Self::ClaimsFail
    }
}

/// What is known when an event is applied.
pub(super) struct Snapshot {
    pub(super) now: Instant,
    pub(super) view: View,
    /// Whether a stop was requested.
    pub(super) is_stopping: bool,
}
