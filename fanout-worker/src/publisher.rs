//! What follows a commit, beside the next one: the gateways are told, and what they were told of may leave the accept log.
//!
//! One after the other and in the order of the commits, so that the events of a room come in the order of its seqs. At most
//! one is under way: the pipeline hands the next over when the one before is through, which bounds what waits here by one
//! transaction.

use shared::bus::RedisClient;
use shared::domain::{Partition, StreamId};
use shared::storage::Committed;
use tokio::task::JoinHandle;
use tracing::error;

use crate::crash_point;
use crate::events::{Waiting, publish};
use crate::log_reader::BatchOrigins;
use crate::trimmer::Trimmer;

/// What one or several transactions stored, and nobody was told of yet.
pub(crate) struct PendingPublication {
    /// What each transaction stored.
    pub(crate) stored: Vec<Committed>,
    /// Which gateways wait to hear of it.
    pub(crate) waiting: Waiting,
    /// How far each partition may be trimmed.
    pub(crate) trimmable: Vec<(Partition, StreamId)>,
}

/// Tells of one commit at a time.
#[derive(Default)]
pub(crate) struct Publisher {
    under_way: Option<JoinHandle<()>>,
    trimmer: Trimmer,
}

impl Publisher {
    /// Begins to tell of `untold` through `redis`, and lets what was read from `origins` be trimmed then, once what is
    /// being told of is through.
    pub(crate) async fn begin(&mut self, mut redis: RedisClient, origins: BatchOrigins, untold: PendingPublication) {
        self.catch_up().await;
        let PendingPublication {
            stored,
            mut waiting,
            trimmable,
        } = untold;
        let trimmer = self.trimmer.clone();
        self.under_way = Some(tokio::spawn(async move {
            for appended in stored {
                publish(&mut redis, appended, &mut waiting).await;
            }
            crash_point::reached("after_publish").await;
            trimmer.add(&origins, trimmable);
        }));
    }

    /// Waits until all is told, and trims what nobody is at yet.
    pub(crate) async fn finish(&mut self) {
        self.catch_up().await;
        self.trimmer.trim().await;
    }

    async fn catch_up(&mut self) {
        let Some(telling) = self.under_way.take() else {
            return;
        };
        if let Err(panic) = telling.await {
            // What was not told gateways find by themselves, and what was not trimmed the next reader does.
            error!(error = %panic, "telling of a commit broke down: {panic}");
        }
    }
}
