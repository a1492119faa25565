//! The wake protocol, checked by `loom`: it runs every interleaving of the threads of a model, and every value that the
//! memory model lets an atomic read return.
//!
//! The file under test is compiled here once more, with the atomics and locks of `loom` in place of the real ones. A lost
//! wake-up leaves the sleeping thread asleep when all others have ended, which `loom` reports as a deadlock. The last
//! tests break each rule of the protocol and expect that report: so the model can fail.
//!
//! A configuration flag for the whole build, `--cfg loom`, is not an option: tokio leaves its signal handling out under it.

use std::sync::Arc;

use loom::sync::Notify;
use loom::thread;

use self::Brought::{Connection, Message};
use self::sync::Mutex;
use self::wake::{TopicSignal, Wake, WakeSignal};

#[expect(
    clippy::duplicate_mod,
    reason = "the same source with other atomics is what is to be checked"
)]
#[path = "wake.rs"]
mod wake;

/// What `wake` takes from its parent.
mod sync {
    pub(super) use loom::sync::MutexGuard;
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    /// A lock with the interface of `parking_lot`.
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

/// Stands for the event descriptor that ends the poll.
impl Wake for Arc<Notify> {
    fn wake(&self) {
        self.notify();
    }
}

/// Preemptions in one run, one more than it takes to find each broken rule. Without a bound the models take a minute.
const PREEMPTIONS: usize = 3;

/// What another thread brings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brought {
    /// A message of the topic, stored in its feed.
    Message,
    /// A connection, put into the mailbox.
    Connection,
}

/// One rule that the thread does not follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// It sleeps without a check after the flag is cleared.
    Check,
    /// It checks first and clears the flag then.
    Order,
    /// It rearms a topic after its source was asked.
    Rearm,
}

/// A thread of the fan-out that follows one topic, and what is brought to it.
struct Model {
    descriptor: Arc<Notify>,
    signal: Arc<WakeSignal<Arc<Notify>>>,
    topic: TopicSignal<Arc<Notify>>,
    /// Messages stored in the topic, as a feed keeps them under its lock.
    feed: Mutex<usize>,
    /// Connections handed over.
    mail: Mutex<usize>,
}

impl Model {
    fn new() -> Arc<Self> {
        let descriptor = Arc::new(Notify::new());
        let signal = Arc::new(WakeSignal::new(Arc::clone(&descriptor)));
        Arc::new(Self {
            topic: signal.topic(0),
            descriptor,
            signal,
            feed: Mutex::new(0),
            mail: Mutex::new(0),
        })
    }

    fn bring(&self, what: Brought) {
        match what {
            Message => {
                *self.feed.lock() += 1;
                self.topic.wake();
            }
            Connection => {
                *self.mail.lock() += 1;
                self.signal.notify();
            }
        }
    }

    /// The thread: it works until it has seen so many messages and connections.
    fn run(&self, messages: usize, connections: usize, broken: Broken) {
        let (mut seen_messages, mut seen_connections) = (0, 0);
        while (seen_messages, seen_connections) != (messages, connections) {
            if self.may_sleep(broken) {
                self.descriptor.wait();
            }
            self.signal.mark_awake();
            seen_connections += std::mem::take(&mut *self.mail.lock());
            for _topic in self.signal.drain_moved() {
                if broken == Broken::Rearm {
                    seen_messages = *self.feed.lock();
                    self.topic.rearm();
                } else {
                    self.topic.rearm();
                    seen_messages = *self.feed.lock();
                }
            }
        }
    }

    fn may_sleep(&self, broken: Broken) -> bool {
        let is_empty = || *self.mail.lock() == 0;
        match broken {
            Broken::Nothing | Broken::Rearm => self.signal.begin_sleep(is_empty),
            Broken::Check => {
                self.signal.begin_sleep(|| false);
                true
            }
            Broken::Order => {
                let found_nothing = is_empty();
                self.signal.begin_sleep(|| false);
                found_nothing
            }
        }
    }
}

/// Runs the thread beside others, each of which brings some things.
fn check(others: &'static [&'static [Brought]], broken: Broken) {
    let count = |what| others.iter().copied().flatten().filter(|brought| **brought == what).count();
    let (messages, connections) = (count(Message), count(Connection));
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let model = Model::new();
        for brought in others {
            let model = Arc::clone(&model);
            thread::spawn(move || brought.iter().for_each(|what| model.bring(*what)));
        }
        model.run(messages, connections, broken);
    });
}

#[test]
fn every_message_of_a_topic_is_seen() {
    check(&[&[Message, Message]], Broken::Nothing);
}

#[test]
fn every_connection_is_seen() {
    check(&[&[Connection, Connection]], Broken::Nothing);
}

#[test]
fn a_message_and_a_connection_do_not_hide_each_other() {
    check(&[&[Message, Connection], &[Message]], Broken::Nothing);
}

#[test]
fn two_threads_may_wake_one_topic() {
    check(&[&[Message], &[Message]], Broken::Nothing);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_check_a_message_is_lost() {
    check(&[&[Message]], Broken::Check);
}

#[test]
#[should_panic(expected = "deadlock")]
fn checking_before_the_flag_loses_a_connection() {
    check(&[&[Connection]], Broken::Order);
}

#[test]
#[should_panic(expected = "deadlock")]
fn rearming_after_the_source_loses_a_message() {
    check(&[&[Message, Message]], Broken::Rearm);
}
