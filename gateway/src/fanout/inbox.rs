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
    door: Arc<Door>,
}

/// A connection that was handed over.
pub(super) struct Arrival<S> {
    pub(super) socket: TcpStream,
    pub(super) place: Box<dyn Send>,
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
    pub(super) arrivals: Vec<Arrival<S>>,
    pub(super) fetched: Vec<Fetched<S::Fetched>>,
    /// Nothing arrives any more.
    pub(super) closed: bool,
}

impl<S: Source> Inbox<S> {
    /// An inbox whose thread is woken by `token` from the sleep on `registry`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let mail = Mail {
            arrivals: Vec::new(),
            fetched: Vec::new(),
            closed: false,
        };
        Ok(Self {
            mail: Mutex::new(mail),
            door: Arc::new(Door::new(Waker::new(registry, token)?)),
        })
    }

    /// A bell for the topic that this thread keeps at `slot`.
    pub(super) fn bell(&self, slot: usize) -> Arc<Bell> {
        Arc::new(Bell {
            slot,
            rung: AtomicBool::new(false),
            door: Arc::clone(&self.door),
        })
    }

    pub(super) fn arrive(&self, socket: TcpStream, place: Box<dyn Send>, source: S) {
        let mut mail = self.mail();
        if !mail.closed {
            mail.arrivals.push(Arrival { socket, place, source });
        }
        drop(mail);
        self.door.knock();
    }

    pub(super) fn bring(&self, fetched: Fetched<S::Fetched>) {
        self.mail().fetched.push(fetched);
        self.door.knock();
    }

    pub(super) fn close(&self) {
        self.mail().closed = true;
        self.door.knock();
    }

    /// Takes everything out: the mail, and the slots of topics that have moved.
    pub(super) fn empty(&self) -> (Mail<S>, Vec<usize>) {
        let mut mail = self.mail();
        let closed = mail.closed;
        let mail = Mail {
            arrivals: mem::take(&mut mail.arrivals),
            fetched: mem::take(&mut mail.fetched),
            closed,
        };
        (mail, mem::take(&mut *self.door.moved()))
    }

    /// Says that the thread, which `knows` whether the inbox is closed, is about to sleep; false if something has come that it
    /// must look at first.
    pub(super) fn may_sleep(&self, knows: bool) -> bool {
        // First the sign, then the look: whoever brings something after the look finds the sign and knocks.
        self.door.awake.store(false, Ordering::SeqCst);
        let mail = self.mail();
        mail.closed == knows && mail.arrivals.is_empty() && mail.fetched.is_empty() && self.door.moved().is_empty()
    }

    /// Says that the thread is awake and will look before it sleeps.
    pub(super) fn woke(&self) {
        self.door.awake.store(true, Ordering::SeqCst);
    }

    fn mail(&self) -> MutexGuard<'_, Mail<S>> {
        // Nothing that is kept here can be left half changed by a panic.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where everybody knocks, whatever they bring.
struct Door {
    /// Topics that have moved, by their slots.
    moved: Mutex<Vec<usize>>,
    awake: AtomicBool,
    waker: Waker,
}

impl Door {
    fn new(waker: Waker) -> Self {
        Self {
            moved: Mutex::default(),
            awake: AtomicBool::new(false),
            waker,
        }
    }

    /// Wakes the thread if it sleeps: one write to an event descriptor, however many knock.
    fn knock(&self) {
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
pub struct Bell {
    slot: usize,
    /// Rung, and not yet heard.
    rung: AtomicBool,
    door: Arc<Door>,
}

impl Bell {
    /// Says that there is something new. Costs little if it was said and not yet heard.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.door.moved().push(self.slot);
            self.door.knock();
        }
    }

    /// Says that it was heard: what is new from now on is said again.
    pub(super) fn heard(&self) {
        self.rung.store(false, Ordering::Release);
    }
}
