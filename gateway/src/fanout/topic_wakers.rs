//! What wakes those who follow a topic, and the list in which whatever moves the topic keeps it.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::error;

use super::wake::{TopicSignal, Wake};

/// Wakes one thread of the fan-out, or one task that serves a source, because one topic has moved.
pub struct TopicWaker(TopicSignal<Sleeper>);

impl TopicWaker {
    pub(super) fn new(signal: TopicSignal<Sleeper>) -> Self {
        Self(signal)
    }

    /// Says that the topic has something new. It costs one atomic operation if that was said and not yet seen.
    pub fn wake(&self) {
        self.0.wake();
    }

    /// Clears the signal, before the sources of the topic are asked.
    pub(super) fn rearm(&self) {
        self.0.rearm();
    }
}

/// What sleeps until it is woken.
pub(super) enum Sleeper {
    /// A thread, in its poll.
    Thread(mio::Waker),
    /// A task. A wake-up that comes before it sleeps is kept for it.
    Task(Arc<Notify>),
}

impl Wake for Sleeper {
    fn wake(&self) {
        match self {
            // One write to an event descriptor.
            Self::Thread(waker) => {
                if let Err(error) = waker.wake() {
                    error!(error = %error, "a thread of the fan-out cannot be woken: {error}");
                }
            }
            Self::Task(notify) => notify.notify_one(),
        }
    }
}

/// The wakers of all who follow one topic: one for each thread of the fan-out that has followers, and one for each task.
///
/// It holds none of them alive. Those whose followers have gone are forgotten when the list would have to grow.
#[derive(Default)]
pub struct TopicWakers(Mutex<Vec<Weak<TopicWaker>>>);

impl TopicWakers {
    /// Wakes `waker` from now on, for as long as somebody holds it.
    pub fn add(&self, waker: &Arc<TopicWaker>) {
        let mut wakers = self.0.lock();
        // A waker in the list keeps its address, so no other one can have it.
        if wakers.iter().any(|known| known.as_ptr() == Arc::as_ptr(waker)) {
            return;
        }
        if wakers.len() == wakers.capacity() {
            wakers.retain(|waker| waker.strong_count() > 0);
            // At least half of the list is free then, so each waker is looked at a constant number of times on average.
            let count = wakers.len();
            if count * 2 >= wakers.capacity() {
                wakers.reserve_exact(count.max(1));
            }
        }
        wakers.push(Arc::downgrade(waker));
    }

    /// Wakes them all: what is new is stored already.
    pub fn wake(&self) {
        self.0.lock().iter().filter_map(Weak::upgrade).for_each(|waker| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::wake::WakeSignal;

    #[test]
    fn each_waker_is_kept_once_and_for_as_long_as_it_is_held() {
        let signal = Arc::new(WakeSignal::new(Sleeper::Task(Arc::default())));
        let waker = |topic| Arc::new(TopicWaker::new(signal.topic(topic)));
        let wakers = TopicWakers::default();
        let kept = waker(0);
        for topic in 1..1_000 {
            wakers.add(&kept);
            wakers.add(&waker(topic));
        }
        assert!(wakers.0.lock().len() <= 4, "{}", wakers.0.lock().len());
        wakers.wake();
        assert_eq!(signal.drain_moved(), [0]);
    }
}
