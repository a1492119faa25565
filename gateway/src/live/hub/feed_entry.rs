//! A feed's entry in the hub, and the handle that keeps it open.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::live::feed::Feed;

/// What idle times are counted from. A number is smaller than a time, and tens of thousands of rooms may be open.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since [`START`].
fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A feed, and how many readers it has.
pub(super) struct FeedEntry {
    pub(super) feed: Feed,
    /// Set once the room is subscribed to and its head was read.
    pub(super) started: OnceCell<()>,
    /// Set while a task reads what the feed is missing.
    pub(super) repairing: AtomicBool,
    readers: AtomicUsize,
    /// When the last reader left, in milliseconds since [`START`].
    idle_since: AtomicU64,
}

impl FeedEntry {
    /// An entry for a feed that nobody reads yet.
    pub(super) fn new(feed: Feed) -> Self {
        Self {
            feed,
            started: OnceCell::new(),
            repairing: AtomicBool::new(false),
            readers: AtomicUsize::new(0),
            idle_since: AtomicU64::new(now_ms()),
        }
    }

    /// True if there has been no reader for longer than `time`.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        // First what is so of most.
        self.readers.load(Ordering::Acquire) == 0
            && u128::from(now_ms().saturating_sub(self.idle_since.load(Ordering::Acquire))) > time.as_millis()
    }
}

/// A reader's handle of a feed, which stays open for as long as this is held.
pub struct OpenFeed(pub(super) Arc<FeedEntry>);

impl OpenFeed {
    /// Adds a reader.
    pub(super) fn hold(entry: &Arc<FeedEntry>) -> Self {
        entry.readers.fetch_add(1, Ordering::Acquire);
        Self(Arc::clone(entry))
    }
}

impl Clone for OpenFeed {
    fn clone(&self) -> Self {
        Self::hold(&self.0)
    }
}

impl Deref for OpenFeed {
    type Target = Feed;

    fn deref(&self) -> &Feed {
        &self.0.feed
    }
}

impl Drop for OpenFeed {
    fn drop(&mut self) {
        self.0.idle_since.store(now_ms(), Ordering::Release);
        self.0.readers.fetch_sub(1, Ordering::Release);
    }
}
