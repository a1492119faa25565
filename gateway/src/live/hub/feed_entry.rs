//! A feed's entry in the hub, and the handle that keeps it open.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::live::feed::Feed;

/// A feed, and how many readers it has.
pub(super) struct FeedEntry {
    pub(super) feed: Feed,
    /// Set once the room is subscribed to and its head was read.
    pub(super) started: OnceCell<()>,
    /// Set while a task reads what the feed is missing.
    pub(super) repairing: AtomicBool,
    readers: AtomicUsize,
    idle_since: Mutex<Instant>,
}

impl FeedEntry {
    /// An entry for a feed that nobody reads yet.
    pub(super) fn new(feed: Feed) -> Self {
        Self {
            feed,
            started: OnceCell::new(),
            repairing: AtomicBool::new(false),
            readers: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    /// True if there has been no reader for longer than `time`.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        // First what is so of most.
        self.readers.load(Ordering::Acquire) == 0 && self.idle_since.lock().elapsed() > time
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
        *self.0.idle_since.lock() = Instant::now();
        self.0.readers.fetch_sub(1, Ordering::Release);
    }
}
