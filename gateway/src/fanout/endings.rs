//! Tells the threads that a source may have to end although nothing that it follows has moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many sources were made to end from outside. Clones share it.
///
/// A thread looks at this one number in each tick instead of at each of its sources: ten thousand silent ones cost nothing.
#[derive(Debug, Clone, Default)]
pub struct Endings(Arc<AtomicU64>);

impl Endings {
    /// Notes that some source must end: its own side says so already.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// How many were noted.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
