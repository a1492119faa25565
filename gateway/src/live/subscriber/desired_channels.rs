//! Desired channels: the set of channels that are to be subscribed to.
//!
//! It holds a state and not a queue of changes: a connection that was away for a while compares and is up to date, and nothing
//! can overflow. It is as large as the number of rooms open here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

/// The channels, and who waits for their confirmation.
#[derive(Default)]
pub(super) struct DesiredChannels {
    channels: Mutex<Channels>,
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct Channels {
    /// The connections have the same names: tens of thousands of rooms may be open.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<()>>>,
    is_closed: bool,
}

impl DesiredChannels {
    /// Adds `new` channels. What is returned for each of them resolves when a server has confirmed it, or fails when the process
    /// stops.
    pub(super) fn add_all(&self, new: Vec<String>) -> Vec<oneshot::Receiver<()>> {
        let mut channels = self.channels.lock();
        let add = |channel: String| {
            let (confirmed, waiting) = oneshot::channel();
            if !channels.is_closed {
                let waiting = channels.waiting.entry(Arc::from(channel)).or_default();
                waiting.retain(|waiter| !waiter.is_closed());
                waiting.push(confirmed);
            }
            waiting
        };
        let waits = new.into_iter().map(add).collect();
        drop(channels);
        self.notify_changed();
        waits
    }

    /// Adds `channel` for the life of the process.
    pub(super) fn add_permanent(&self, channel: String) {
        self.channels.lock().waiting.entry(channel.into()).or_default();
        self.notify_changed();
    }

    /// Removes `channel`.
    pub(super) fn remove(&self, channel: &str) {
        self.channels.lock().waiting.remove(channel);
        self.notify_changed();
    }

    pub(super) fn contains(&self, channel: &str) -> bool {
        self.channels.lock().waiting.contains_key(channel)
    }

    /// The channels for which `is_ours` returns true.
    pub(super) fn matching(&self, is_ours: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        self.channels.lock().waiting.keys().filter(|channel| is_ours(channel)).cloned().collect()
    }

    /// Resolves the waits for `channel`: a server has confirmed it.
    pub(super) fn confirm(&self, channel: &str) {
        let waiting = self.channels.lock().waiting.get_mut(channel).map(std::mem::take);
        for waiter in waiting.unwrap_or_default() {
            // The caller may have stopped waiting. Then the feed becomes idle, and its closing unsubscribes.
            let _ = waiter.send(());
        }
    }

    /// Makes every connection compare again.
    pub(super) fn notify_changed(&self) {
        self.changes.send_replace(());
    }

    /// A receiver of changes, from this call on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Fails all waits, and every later one: channels are no longer subscribed to.
    pub(super) fn close(&self) {
        let mut channels = self.channels.lock();
        channels.is_closed = true;
        channels.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn add(desired: &DesiredChannels, channel: &str) -> oneshot::Receiver<()> {
        desired.add_all(vec![channel.to_owned()]).pop().unwrap()
    }

    #[tokio::test]
    async fn many_channels_are_one_change() {
        let desired = DesiredChannels::default();
        let mut changes = desired.changes();
        let mut waits = desired.add_all((0..500).map(|number| number.to_string()).collect());
        changes.mark_unchanged();
        desired.confirm("499");
        assert_eq!(waits.pop().unwrap().now_or_never(), Some(Ok(())));
        assert_eq!(waits.pop().unwrap().now_or_never(), None);
        assert!(!changes.has_changed().unwrap());
        assert_eq!(desired.matching(|_| true).len(), 500);
    }

    #[tokio::test]
    async fn all_who_wait_for_a_channel_are_confirmed() {
        let desired = DesiredChannels::default();
        let (mut first, mut second) = (add(&desired, "a"), add(&desired, "a"));
        let mut other = add(&desired, "b");
        desired.confirm("a");
        assert_eq!((&mut first).now_or_never(), Some(Ok(())));
        assert_eq!((&mut second).now_or_never(), Some(Ok(())));
        assert_eq!((&mut other).now_or_never(), None);
    }

    #[tokio::test]
    async fn a_channel_stays_desired_when_its_caller_leaves() {
        let desired = DesiredChannels::default();
        drop(add(&desired, "a"));
        assert_eq!(desired.matching(|_| true), [Arc::from("a")]);
        desired.remove("a");
        assert!(!desired.contains("a"));
    }

    #[tokio::test]
    async fn closing_fails_every_wait() {
        let desired = DesiredChannels::default();
        let before = add(&desired, "a");
        desired.close();
        let after = add(&desired, "a");
        assert!(before.await.is_err() && after.await.is_err());
    }
}
