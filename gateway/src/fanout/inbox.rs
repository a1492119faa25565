//! The mailbox of a thread: what others leave for it, and how they wake it.

use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mio::{Registry, Token};
use parking_lot::Mutex;

use super::Source;
use super::topic_wakers::{Sleeper, TopicWaker};
use super::wake::WakeSignal;

/// The mailbox of one thread. What sends to it bounds it: a topic lies there once, a connection holds a permit, a client
/// fetches one thing at a time.
pub(super) struct Inbox<S: Source> {
    pending: Mutex<Pending<S>>,
    signal: Arc<WakeSignal<Sleeper>>,
    /// Connections that lie here or are served.
    connections: AtomicUsize,
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
    /// Where the client is kept.
    pub(super) key: usize,
    /// Nothing if the fetch panicked.
    pub(super) outcome: Option<F>,
}

/// What has come since the thread emptied its mailbox last.
pub(super) struct Pending<S: Source> {
    pub(super) connections: Vec<NewConnection<S>>,
    pub(super) fetched: Vec<Fetched<S::Fetched>>,
    /// No further connection comes.
    pub(super) closed: bool,
}

impl<S: Source> Inbox<S> {
    /// A mailbox whose thread is woken by `token` from its poll of `registry`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let pending = Pending {
            connections: Vec::new(),
            fetched: Vec::new(),
            closed: false,
        };
        Ok(Self {
            pending: Mutex::new(pending),
            signal: Arc::new(WakeSignal::new(Sleeper::Thread(mio::Waker::new(registry, token)?))),
            connections: AtomicUsize::new(0),
        })
    }

    /// A waker for the topic that this thread keeps at `index`.
    pub(super) fn topic_waker(&self, index: usize) -> Arc<TopicWaker> {
        Arc::new(TopicWaker::new(self.signal.topic(index)))
    }

    /// How many connections the thread has, or is about to have.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Notes that the thread has closed a connection.
    pub(super) fn note_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn push_connection(&self, socket: TcpStream, permit: Box<dyn Send>, source: S) {
        let mut pending = self.pending.lock();
        if !pending.closed {
            self.connections.fetch_add(1, Ordering::Relaxed);
            pending.connections.push(NewConnection { socket, permit, source });
        }
        drop(pending);
        self.signal.notify();
    }

    pub(super) fn push_fetched(&self, fetched: Fetched<S::Fetched>) {
        self.pending.lock().fetched.push(fetched);
        self.signal.notify();
    }

    pub(super) fn close(&self) {
        self.pending.lock().closed = true;
        self.signal.notify();
    }

    /// Empties the mailbox: returns the pending, and the indices of the topics that have moved.
    pub(super) fn drain(&self) -> (Pending<S>, Vec<usize>) {
        let mut pending = self.pending.lock();
        let closed = pending.closed;
        let pending = Pending {
            connections: mem::take(&mut pending.connections),
            fetched: mem::take(&mut pending.fetched),
            closed,
        };
        (pending, self.signal.drain_moved())
    }

    /// Begins the sleep of the thread, which `knows` whether the mailbox is closed; false if something has come that it must
    /// handle first.
    pub(super) fn begin_sleep(&self, knows: bool) -> bool {
        self.signal.begin_sleep(|| {
            let pending = self.pending.lock();
            pending.closed == knows && pending.connections.is_empty() && pending.fetched.is_empty()
        })
    }

    /// Marks the thread as awake: it empties the mailbox before it sleeps.
    pub(super) fn mark_awake(&self) {
        self.signal.mark_awake();
    }
}
