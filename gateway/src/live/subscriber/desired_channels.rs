//! Desired channels: the set of channels that are to be subscribed to.
//!
//! It holds a state, as large as the number of rooms open here, and beside it the names of those that changed last: a connection that is
//! up to date looks at these alone. One that was away for a while compares everything.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

/// Names of channels that changed last which are kept. A connection that has not seen so many compares everything.
const CHANGED_AT_MOST: usize = 16_384;

/// The channels, and who waits for their confirmation.
#[derive(Default)]
pub(super) struct DesiredChannels {
    channels: Mutex<Channels>,
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct Channels {
    /// Those that are to be subscribed to. The connections have the same names: tens of thousands of rooms may be open.
    desired: HashSet<Arc<str>>,
    /// Who waits for the confirmation of one of them.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<()>>>,
    /// The last ones that were added or removed.
    changed: VecDeque<Arc<str>>,
    /// How many changes there were ever.
    count: u64,
    is_closed: bool,
}

/// What a connection must compare.
pub(super) enum Comparison {
    /// These channels, each with whether it is desired.
    Some(Vec<(Arc<str>, bool)>),
    /// Everything.
    All,
}

impl Channels {
    /// Adds `channel`, and returns the one copy of its name.
    fn desire(&mut self, channel: String) -> Arc<str> {
        if let Some(known) = self.desired.get(channel.as_str()) {
            return Arc::clone(known);
        }
        let channel = Arc::<str>::from(channel);
        self.desired.insert(Arc::clone(&channel));
        channel
    }

    fn note_changed(&mut self, channel: Arc<str>) {
        if self.changed.len() >= CHANGED_AT_MOST {
            self.changed.pop_front();
        }
        self.changed.push_back(channel);
        self.count += 1;
    }
}

impl DesiredChannels {
    /// Adds `new` channels. What is returned for each of them resolves when a server has confirmed it, or fails when the process
    /// stops.
    pub(super) fn add_all(&self, new: Vec<String>) -> Vec<oneshot::Receiver<()>> {
        let mut channels = self.channels.lock();
        let add = |channel: String| {
            let (confirmed, waiting) = oneshot::channel();
            if !channels.is_closed {
                let channel = channels.desire(channel);
                let waiting = channels.waiting.entry(Arc::clone(&channel)).or_default();
                waiting.retain(|waiter| !waiter.is_closed());
                waiting.push(confirmed);
                channels.note_changed(channel);
            }
            waiting
        };
        let waits = new.into_iter().map(add).collect();
        drop(channels);
        self.changes.send_replace(());
        waits
    }

    /// Adds `channel` for the life of the process.
    pub(super) fn add_permanent(&self, channel: String) {
        let mut channels = self.channels.lock();
        let channel = channels.desire(channel);
        channels.note_changed(channel);
        drop(channels);
        self.changes.send_replace(());
    }

    /// Removes `channel`.
    pub(super) fn remove(&self, channel: &str) {
        let mut channels = self.channels.lock();
        channels.waiting.remove(channel);
        if let Some(channel) = channels.desired.take(channel) {
            channels.note_changed(channel);
        }
        drop(channels);
        self.changes.send_replace(());
    }

    #[cfg(test)]
    fn contains(&self, channel: &str) -> bool {
        self.channels.lock().desired.contains(channel)
    }

    /// The channels for which `is_ours` returns true.
    pub(super) fn matching(&self, is_ours: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        self.channels.lock().desired.iter().filter(|channel| is_ours(channel)).cloned().collect()
    }

    /// Resolves the waits for `channel`: a server has confirmed it.
    pub(super) fn confirm(&self, channel: &str) {
        let waiting = self.channels.lock().waiting.remove(channel);
        for waiter in waiting.unwrap_or_default() {
            // The caller may have stopped waiting. Then the feed becomes idle, and its closing unsubscribes.
            let _ = waiter.send(());
        }
    }

    /// Makes every connection compare everything: the servers hold other channels than before.
    pub(super) fn compare_all(&self) {
        let mut channels = self.channels.lock();
        channels.changed.clear();
        channels.count += 1;
        drop(channels);
        self.changes.send_replace(());
    }

    /// What a connection that has `seen` so many changes, and is to look at `refused` again, must compare; and how many changes it has seen
    /// then.
    pub(super) fn comparison(&self, seen: Option<u64>, refused: Vec<Arc<str>>) -> (Comparison, u64) {
        let channels = self.channels.lock();
        let unseen = seen.and_then(|seen| usize::try_from(channels.count - seen).ok());
        let Some(unseen) = unseen.filter(|unseen| *unseen <= channels.changed.len()) else {
            return (Comparison::All, channels.count);
        };
        let known = channels.changed.len() - unseen;
        let names: HashSet<Arc<str>> = channels.changed.range(known..).cloned().chain(refused).collect();
        let is_desired = |channel: Arc<str>| {
            let is_desired = channels.desired.contains(&channel);
            (channel, is_desired)
        };
        (Comparison::Some(names.into_iter().map(is_desired).collect()), channels.count)
    }

    /// A receiver of changes, from this call on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Fails all waits, and every later one: channels are no longer subscribed to.
    pub(super) fn close(&self) {
        let mut channels = self.channels.lock();
        channels.is_closed = true;
        channels.desired.clear();
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

    /// The channels that a connection must look at, by name; `None` if these are all.
    fn compared(desired: &DesiredChannels, seen: Option<u64>) -> Option<Vec<(String, bool)>> {
        let (Comparison::Some(some), _) = desired.comparison(seen, vec!["refused".into()]) else {
            return None;
        };
        let mut some: Vec<_> =
            some.into_iter().map(|(channel, is_desired)| (channel.to_string(), is_desired)).collect();
        some.sort();
        Some(some)
    }

    #[tokio::test]
    async fn a_connection_looks_at_what_has_changed() {
        let desired = DesiredChannels::default();
        drop([add(&desired, "a"), add(&desired, "b")]);
        assert_eq!(compared(&desired, None), None, "it has seen nothing");
        let (_, seen) = desired.comparison(None, Vec::new());
        desired.remove("a");
        desired.remove("a");
        drop(add(&desired, "c"));
        let expected = [("a", false), ("c", true), ("refused", false)].map(|(name, is)| (name.to_owned(), is));
        assert_eq!(compared(&desired, Some(seen)), Some(expected.into()));
        desired.compare_all();
        assert_eq!(compared(&desired, Some(seen)), None, "slots have moved");
        let (_, seen) = desired.comparison(None, Vec::new());
        drop(desired.add_all((0..=CHANGED_AT_MOST).map(|number| number.to_string()).collect()));
        assert_eq!(compared(&desired, Some(seen)), None, "too much has changed");
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
