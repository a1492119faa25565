//! Which channels should be heard.
//!
//! It says what is wanted, not what to do: whoever was away for a while compares and is up to date, and no queue of
//! changes can overflow. Its size is that of the rooms open here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

/// The channels, and who waits for the subscription to stand.
#[derive(Default)]
pub(super) struct DesiredChannels {
    channels: Mutex<Channels>,
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct Channels {
    waiting: HashMap<String, Vec<oneshot::Sender<()>>>,
    is_closed: bool,
}

impl DesiredChannels {
    /// Wants `channel`. What is returned resolves when it is heard, or fails when the process stops.
    pub(super) fn add(&self, channel: String) -> oneshot::Receiver<()> {
        let (stands, waiting) = oneshot::channel();
        let mut channels = self.lock();
        if !channels.is_closed {
            let waiting = channels.waiting.entry(channel).or_default();
            waiting.retain(|someone| !someone.is_closed());
            waiting.push(stands);
        }
        drop(channels);
        self.notify_changed();
        waiting
    }

    /// Wants `channel` for the life of the process.
    pub(super) fn add_permanent(&self, channel: String) {
        self.lock().waiting.entry(channel).or_default();
        self.notify_changed();
    }

    /// Wants `channel` no longer.
    pub(super) fn remove(&self, channel: &str) {
        self.lock().waiting.remove(channel);
        self.notify_changed();
    }

    pub(super) fn contains(&self, channel: &str) -> bool {
        self.lock().waiting.contains_key(channel)
    }

    /// The channels for which `is_ours` says yes.
    pub(super) fn matching(&self, is_ours: impl Fn(&str) -> bool) -> Vec<String> {
        self.lock().waiting.keys().filter(|channel| is_ours(channel)).cloned().collect()
    }

    /// Tells those who wait for `channel` that it is heard.
    pub(super) fn confirm(&self, channel: &str) {
        let waiting = self.lock().waiting.get_mut(channel).map(std::mem::take);
        for someone in waiting.unwrap_or_default() {
            // Whoever asked may have gone away meanwhile; the sweep of idle feeds ends the subscription then.
            let _ = someone.send(());
        }
    }

    /// Makes everybody compare again.
    pub(super) fn notify_changed(&self) {
        self.changes.send_replace(());
    }

    /// Tells of changes, beginning with those after this call.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Nobody is served any more: those who wait are told so.
    pub(super) fn close(&self) {
        let mut channels = self.lock();
        channels.is_closed = true;
        channels.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Channels> {
        // Nothing that is guarded here can be left half changed by a panic.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
