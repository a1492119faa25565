//! Publishes a committed batch and schedules trimming while the next batch commits.
//!
//! One publication is in flight at a time, in the order of the commits, so that the events of a room arrive in the order of its
//! seqs. At most one more is submitted: the pipeline starts no transaction before the publication of the last one has started,
//! which bounds what waits here by one transaction.

use shared::bus::RedisClient;
use shared::domain::{LogEntryId, Partition};
use shared::storage::Committed;
use tokio::task::JoinHandle;
use tracing::error;

use crate::crash_point;
use crate::log_reader::BatchServers;
use crate::publications::{ReceiptRequests, publish};
use crate::trimmer::Trimmer;

/// What one or several transactions stored, and no gateway knows of yet.
pub(crate) struct PendingPublication {
    /// What each transaction stored.
    pub(crate) stored: Vec<Committed>,
    /// Which gateways wait for receipts.
    pub(crate) receipt_requests: ReceiptRequests,
    /// How far each partition may be trimmed once this is published.
    pub(crate) trimmable: Vec<(Partition, LogEntryId)>,
}

/// Publishes one commit at a time.
pub(crate) struct Publisher {
    redis: RedisClient,
    trimmer: Trimmer,
    in_flight: Option<JoinHandle<()>>,
    submitted: Option<(BatchServers, PendingPublication)>,
}

impl Publisher {
    /// A publisher that publishes through `redis`.
    pub(crate) fn new(redis: RedisClient) -> Self {
        Self {
            redis,
            trimmer: Trimmer::default(),
            in_flight: None,
            submitted: None,
        }
    }

    /// Submits what was committed of the entries read from `servers`. [`Publisher::start_submitted`] starts to publish it.
    pub(crate) fn submit(&mut self, servers: BatchServers, publication: PendingPublication) {
        debug_assert!(self.submitted.is_none(), "a commit follows the start of the publication before it");
        self.submitted = Some((servers, publication));
    }

    /// Starts the publication that was submitted, if any, once the one before has ended.
    pub(crate) async fn start_submitted(&mut self) {
        if self.submitted.is_none() {
            return;
        }
        self.join().await;
        let Some((servers, publication)) = self.submitted.take() else {
            return;
        };
        let PendingPublication {
            stored,
            mut receipt_requests,
            trimmable,
        } = publication;
        let (mut redis, trimmer) = (self.redis.clone(), self.trimmer.clone());
        self.in_flight = Some(tokio::spawn(async move {
            for committed in stored {
                publish(&mut redis, committed, &mut receipt_requests).await;
            }
            crash_point::reached("after_publish").await;
            trimmer.schedule(&servers, trimmable);
        }));
    }

    /// Waits until everything is published, and trims what is not trimmed yet.
    pub(crate) async fn finish(&mut self) {
        self.start_submitted().await;
        self.join().await;
        self.trimmer.trim().await;
    }

    async fn join(&mut self) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        if let Err(panic) = in_flight.await {
            // The gateways find by themselves what was not published, and the next reader trims what was not trimmed.
            error!(error = %panic, "publishing a commit broke down: {panic}");
        }
    }
}
