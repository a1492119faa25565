//! What others leave for a thread, and how they wake it.

use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::{Registry, Token, Waker};
use tracing::error;

use super::Source;

/// The mail of one thread. It is bounded by what sends it: a topic lies there once, an arrival has a place among the
/// connections, a client fetches one thing at a time.
pub(super) struct Inbox<S: Source> {
    mail: Mutex<Mail<S>>,
    signal: Arc<WakeSignal>,
}

/// A connection that was handed over.
pub(super) struct NewConnection<S> {
    pub(super) socket: TcpStream,
    pub(super) permit: Box<dyn Send>,
    pub(super) source: S,
}

/// What a client wanted to have fetched.
pub(super) struct Fetched<F> {
    /// The client, by its number among all that this thread ever had.
    pub(super) client: u64,
    /// Where it is kept.
    pub(super) key: usize,
    /// Nothing if it broke down.
    pub(super) what: Option<F>,
}

/// What has come since the thread looked last.
pub(super) struct Mail<S: Source> {
    pub(super) connections: Vec<NewConnection<S>>,
    pub(super) fetched: Vec<Fetched<S::Fetched>>,
    /// Nothing arrives any more.
    pub(super) closed: bool,
}

impl<S: Source> Inbox<S> {
    /// An inbox whose thread is woken by `token` from the sleep on `registry`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let mail = Mail {
            connections: Vec::new(),
            fetched: Vec::new(),
            closed: false,
        };
        Ok(Self {
            mail: Mutex::new(mail),
            signal: Arc::new(WakeSignal::new(Waker::new(registry, token)?)),
        })
    }

    /// A waker for the topic that this thread keeps at `slot`.
    pub(super) fn waker(&self, slot: usize) -> Arc<TopicWaker> {
        Arc::new(TopicWaker {
            slot,
            signalled: AtomicBool::new(false),
            signal: Arc::clone(&self.signal),
        })
    }

    pub(super) fn push_connection(&self, socket: TcpStream, permit: Box<dyn Send>, source: S) {
        let mut mail = self.mail();
        if !mail.closed {
            mail.connections.push(NewConnection { socket, permit, source });
        }
        drop(mail);
        self.signal.notify();
    }

    pub(super) fn push_fetched(&self, fetched: Fetched<S::Fetched>) {
        self.mail().fetched.push(fetched);
        self.signal.notify();
    }

    pub(super) fn close(&self) {
        self.mail().closed = true;
        self.signal.notify();
    }

    /// Takes everything out: the mail, and the slots of topics that have moved.
    pub(super) fn drain(&self) -> (Mail<S>, Vec<usize>) {
        let mut mail = self.mail();
        let closed = mail.closed;
        let mail = Mail {
            connections: mem::take(&mut mail.connections),
            fetched: mem::take(&mut mail.fetched),
            closed,
        };
        (mail, mem::take(&mut *self.signal.moved()))
    }

    /// Says that the thread, which `knows` whether the inbox is closed, is about to sleep; false if something has come that it
    /// must look at first.
    pub(super) fn may_sleep(&self, knows: bool) -> bool {
        // First the sign, then the look: whoever brings something after the look finds the sign and knocks.
        self.signal.awake.store(false, Ordering::SeqCst);
        let mail = self.mail();
        mail.closed == knows && mail.connections.is_empty() && mail.fetched.is_empty() && self.signal.moved().is_empty()
    }

    /// Says that the thread is awake and will look before it sleeps.
    pub(super) fn mark_awake(&self) {
        self.signal.awake.store(true, Ordering::SeqCst);
    }

    fn mail(&self) -> MutexGuard<'_, Mail<S>> {
        // Nothing that is kept here can be left half changed by a panic.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where everybody knocks, whatever they bring.
struct WakeSignal {
    /// Topics that have moved, by their slots.
    moved: Mutex<Vec<usize>>,
    awake: AtomicBool,
    waker: Waker,
}

impl WakeSignal {
    fn new(waker: Waker) -> Self {
        Self {
            moved: Mutex::default(),
            awake: AtomicBool::new(false),
            waker,
        }
    }

    /// Wakes the thread if it sleeps: one write to an event descriptor, however many knock.
    fn notify(&self) {
        if !self.awake.swap(true, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            error!(error = %error, "a thread of the fan-out cannot be woken: {error}");
        }
    }

    fn moved(&self) -> MutexGuard<'_, Vec<usize>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells one thread that one topic has moved.
pub struct TopicWaker {
    slot: usize,
    /// Rung, and not yet heard.
    signalled: AtomicBool,
    signal: Arc<WakeSignal>,
}

impl TopicWaker {
    /// Says that there is something new. Costs little if it was said and not yet heard.
    pub fn wake(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.signal.moved().push(self.slot);
            self.signal.notify();
        }
    }

    /// Says that it was heard: what is new from now on is said again.
    pub(super) fn rearm(&self) {
        self.signalled.store(false, Ordering::Release);
    }
}
