//! Look-up of stored messages by id: which keyed messages are in SQL already.
//!
//! A statement for each post would cost more than everything else about it, so the posts of one moment share one statement.

use std::sync::Arc;

use futures_util::FutureExt as _;
use shared::batcher::{BatchLimits, Batcher};
use shared::domain::MessageId;
use shared::storage::{KnownMessage, Store, StoreError};

/// One statement at a time: most of the cost of a statement does not depend on its ids, so fewer and larger ones are quicker
/// for all posts.
const LIMITS: BatchLimits = BatchLimits { batches: 1, calls: 256 };

/// Looks messages up by their ids.
pub(super) struct StoredLookup(Batcher<MessageId, LookupResult>);

type LookupResult = Result<Option<KnownMessage>, Arc<StoreError>>;

impl StoredLookup {
    /// Looks up in `store`.
    pub(super) fn new(store: Store) -> Self {
        Self(Batcher::new(LIMITS, move |ids| look_up(store.clone(), ids).boxed()))
    }

    /// What is stored under `id` at some moment after the call, if anything is.
    pub(super) async fn find(&self, id: MessageId) -> LookupResult {
        self.0.call(id).await.unwrap_or_else(|| Err(Arc::new(StoreError::task_failed())))
    }
}

async fn look_up(store: Store, ids: Vec<MessageId>) -> Vec<LookupResult> {
    match store.known_messages(&ids).await {
        // Two calls may look up the same id at the same time.
        Ok(known) => ids.iter().map(|id| Ok(known.get(id).cloned())).collect(),
        Err(error) => {
            let error = Arc::new(error);
            ids.iter().map(|_| Err(Arc::clone(&error))).collect()
        }
    }
}
