//! What a proxy and its connections share: the condition of the link, and the faults that are still to happen.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::condition::NetworkCondition;

/// What the proxy and its connections share.
pub(super) struct Shared {
    pub(super) condition: watch::Sender<NetworkCondition>,
    /// Incremented by every cut: existing connections end when it changes.
    pub(super) cuts: watch::Sender<u64>,
    /// The request whose replies are lost, and how many are still to be.
    pub(super) loss: Mutex<Option<(&'static [u8], u64)>>,
    /// Replies lost so far.
    pub(super) lost: AtomicU64,
    /// Bytes from the server that may still pass before the connection is cut.
    pub(super) passing: Mutex<Option<usize>>,
    /// Connections cut by that.
    pub(super) cut_within: AtomicU64,
    /// Bytes from the server that have passed.
    pub(super) passed: AtomicU64,
    /// One published message in so many is left out; 0 for none.
    pub(super) drop_one_in: AtomicU64,
    /// Published messages seen, and left out of them.
    pub(super) published: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            condition: watch::Sender::new(NetworkCondition::Normal),
            cuts: watch::Sender::new(0),
            loss: Mutex::new(None),
            lost: AtomicU64::new(0),
            passing: Mutex::new(None),
            cut_within: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            drop_one_in: AtomicU64::new(0),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// True if the reply to `request` is to be lost; it is counted as lost then.
    pub(super) fn loses_reply_to(&self, request: &[u8]) -> bool {
        let mut loss = self.loss.lock();
        let Some((pattern, left)) = loss.as_mut() else {
            return false;
        };
        if !request.windows(pattern.len()).any(|window| window == *pattern) {
            return false;
        }
        *left -= 1;
        if *left == 0 {
            *loss = None;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How many of `length` bytes from the server may pass, and whether the connection ends behind them.
    pub(super) fn admit(&self, length: usize) -> (usize, bool) {
        let mut passing = self.passing.lock();
        let (admitted, ends) = match passing.as_mut() {
            Some(left) if *left > length => {
                *left -= length;
                (length, false)
            }
            Some(left) => (*left, true),
            None => (length, false),
        };
        if ends {
            *passing = None;
            self.cut_within.fetch_add(1, Ordering::Relaxed);
        }
        self.passed.fetch_add(admitted as u64, Ordering::Relaxed);
        (admitted, ends)
    }

    /// True if the next published message is to be left out.
    pub(super) fn drops_next(&self) -> bool {
        let one_in = self.drop_one_in.load(Ordering::Relaxed);
        let number = self.published.fetch_add(1, Ordering::Relaxed);
        let drops = one_in > 0 && number.is_multiple_of(one_in);
        if drops {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drops
    }
}
