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
    mail: Mutex<Mail<S>>,
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
pub(super) struct Mail<S: Source> {
    pub(super) connections: Vec<NewConnection<S>>,
    pub(super) fetched: Vec<Fetched<S::Fetched>>,
    /// No further connection comes.
    pub(super) closed: bool,
}

impl<S: Source> Inbox<S> {
    /// A mailbox whose thread is woken by `token` from its poll of `registry`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let mail = Mail {
            connections: Vec::new(),
            fetched: Vec::new(),
            closed: false,
        };
        Ok(Self {
            mail: Mutex::new(mail),
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
        let mut mail = self.mail.lock();
        if !mail.closed {
            self.connections.fetch_add(1, Ordering::Relaxed);
            mail.connections.push(NewConnection { socket, permit, source });
        }
        drop(mail);
        self.signal.notify();
    }

    pub(super) fn push_fetched(&self, fetched: Fetched<S::Fetched>) {
        self.mail.lock().fetched.push(fetched);
        self.signal.notify();
    }

    pub(super) fn close(&self) {
        self.mail.lock().closed = true;
        self.signal.notify();
    }

    /// Empties the mailbox: returns the mail, and the indices of the topics that have moved.
    pub(super) fn drain(&self) -> (Mail<S>, Vec<usize>) {
        let mut mail = self.mail.lock();
        let closed = mail.closed;
        let mail = Mail {
            connections: mem::take(&mut mail.connections),
            fetched: mem::take(&mut mail.fetched),
            closed,
        };
        (mail, self.signal.drain_moved())
    }

    /// Begins the sleep of the thread, which `knows` whether the mailbox is closed; false if something has come that it must
    /// handle first.
    pub(super) fn begin_sleep(&self, knows: bool) -> bool {
        self.signal.begin_sleep(|| {
            let mail = self.mail.lock();
            mail.closed == knows && mail.connections.is_empty() && mail.fetched.is_empty()
        })
    }

    /// Marks the thread as awake: it empties the mailbox before it sleeps.
    pub(super) fn mark_awake(&self) {
        self.signal.mark_awake();
    }
}
