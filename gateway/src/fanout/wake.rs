//! How other threads wake a thread of the fan-out: no wake-up is lost, and few of them cost a system call.
//!
//! A task that serves a source by itself (module `body`) is woken in the same way: its event descriptor is a `Notify`.
//!
//! Each thread has one [`WakeSignal`] with one flag, `awake`, and for each topic that it follows a [`TopicSignal`] with
//! one flag, `signalled`. Whoever brings something stores it first, under a lock, and looks at the flags then.
//!
//! The thread:
//!
//! ```text
//!               begin_sleep: awake = false                 nothing is there
//!  ┌─────────┐ ───────────────────────────► ┌──────────┐ ──────────────────► ┌────────┐
//!  │  AWAKE  │                              │ CHECKING │                     │ ASLEEP │
//!  │ awake=1 │ ◄─────────────────────────── │ awake=0  │                     │ awake=0│
//!  └─────────┘   something is there:        └──────────┘                     └────────┘
//!    │  ▲  ▲     mark_awake                      │ notify: awake = true,          │ notify: awake = true,
//!    └──┘  │                                     │ event descriptor written       │ event descriptor written
//!  notify: └─────────────────────────────────────┴────────────────────────────────┘
//!  nothing to do                    mark_awake after the poll
//! ```
//!
//! A topic:
//!
//! ```text
//!  ┌──────────────┐   wake: signalled = true, topic into `moved`, notify   ┌──────────────┐
//!  │     IDLE     │ ─────────────────────────────────────────────────────► │  SIGNALLED   │ ──┐ wake:
//!  │ signalled=0  │ ◄───────────────────────────────────────────────────── │ signalled=1  │ ◄─┘ nothing to do
//!  └──────────────┘   rearm: signalled = false, before anybody is asked    └──────────────┘
//! ```
//!
//! Two rules make it safe:
//!
//! - [`WakeSignal::begin_sleep`] clears `awake` before it checks whether something has come. Whoever brings something
//!   after the check finds the flag cleared and writes to the event descriptor, which ends the sleep.
//! - A topic is rearmed before its sources are asked for what is new. What is stored after they were asked signals the
//!   topic again.
//!
//! Every change of a flag is a swap, so the changes of a flag have one order and each sees the one before it: the swap that
//! clears the flag of a thread sees what was stored before the swap that found the flag set.
//!
//! `wake_model` checks this file with `loom`, which runs every interleaving of a few threads:
//!
//! ```sh
//! cargo test -p gateway --lib fanout::wake_model
//! ```

use std::mem;
use std::sync::Arc;

use super::sync::{AtomicBool, Mutex, Ordering};

/// Ends the sleep of one thread. A wake-up that comes before the sleep ends it at once.
pub(super) trait Wake {
    fn wake(&self);
}

/// What wakes one thread, whatever is brought to it.
pub(super) struct WakeSignal<W> {
    /// The thread will look at everything before it sleeps.
    awake: AtomicBool,
    /// Topics that have moved, by the thread's own index.
    moved: Mutex<Vec<usize>>,
    waker: W,
}

impl<W: Wake> WakeSignal<W> {
    pub(super) fn new(waker: W) -> Self {
        Self {
            awake: AtomicBool::new(false),
            moved: Mutex::new(Vec::new()),
            waker,
        }
    }

    /// A signal for the topic that the thread keeps at `topic`.
    pub(super) fn topic(self: &Arc<Self>, topic: usize) -> TopicSignal<W> {
        TopicSignal {
            topic,
            signalled: AtomicBool::new(false),
            signal: Arc::clone(self),
        }
    }

    /// Wakes the thread if it sleeps, or is about to. What it is woken for is stored already. However many call this,
    /// there is one write to the event descriptor for each sleep.
    pub(super) fn notify(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Marks the thread as awake: from here on nobody needs to wake it until it begins to sleep.
    pub(super) fn mark_awake(&self) {
        self.awake.swap(true, Ordering::SeqCst);
    }

    /// Begins to sleep if nothing is there: no topic has moved, and `is_empty` says the same of everything else. False if
    /// the thread must look first.
    pub(super) fn begin_sleep(&self, is_empty: impl FnOnce() -> bool) -> bool {
        // The flag first, then the check: whoever brings something after the check finds the flag cleared.
        self.awake.swap(false, Ordering::SeqCst);
        is_empty() && self.moved.lock().is_empty()
    }

    /// The topics that have moved since this was called last.
    pub(super) fn drain_moved(&self) -> Vec<usize> {
        mem::take(&mut *self.moved.lock())
    }
}

/// Tells one thread that one topic has moved.
pub(super) struct TopicSignal<W> {
    topic: usize,
    /// The topic lies among those that have moved, or is about to.
    signalled: AtomicBool,
    signal: Arc<WakeSignal<W>>,
}

impl<W: Wake> TopicSignal<W> {
    /// Says that the topic has something new. It costs one atomic operation if that was said and not yet seen.
    pub(super) fn wake(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.signal.moved.lock().push(self.topic);
            self.signal.notify();
        }
    }

    /// Clears the signal, before the sources are asked: what is stored after they were asked is said again.
    pub(super) fn rearm(&self) {
        self.signalled.swap(false, Ordering::AcqRel);
    }
}
