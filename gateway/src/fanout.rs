//! Writes live events to many sockets: a few threads, each with its own connections.
//!
//! A stream begins like any request. When the headers of its response are sent, its socket leaves the HTTP library and comes
//! here, to one thread for the rest of its life. The kernel's work of accepting bytes is nearly all that is left to do
//! then, and every task, lock and wake-up beside it would show.
//!
//! ```text
//!           wakes a topic                     asks for the next segment
//!   feed ─────────────────► inbox ──► shard ──────────────────────────► source (one client's position)
//!                          (wakes      │ ▲                                   │
//!                        the thread)   │ └── page of history ◄── a task ◄────┘ what lies before the feed
//!                                      ▼
//!                                   sockets
//! ```
//!
//! # How a thread knows what to do
//!
//! It sleeps in the kernel, in one call that ends when any of its sockets can be written to again or was closed by the
//! client, when another thread wakes it (module `wake`), or when the next sweep over all clients is due (module `shard`).
//! What it is woken for lies in its inbox: topics that have moved, new connections, pages of history (module `inbox`).
//!
//! A topic that has moved begins a pass over those who follow it (module `topics`). At each client's turn, and not before,
//! its source is asked for all that is new to it. So while there is little to do a message is written as soon as it is
//! there, and under load one write carries everything that came since the last pass: the more there is, the cheaper each
//! message gets, and no client waits for a fixed time. Other topics take turns with a long pass.
//!
//! A client whose socket is full keeps the rest of the current segment, whose memory it shares with others at the same
//! position, and its permit; the kernel reports when the socket accepts more (module `client`). So a slow client costs
//! nothing, falls behind the feed, and reads on in history.
//!
//! Nothing here knows a room, a user or a message. A [`Source`] may follow many topics; what it writes for one client
//! alone, such as a position, stands beside the shared bytes of a [`Segment`] and not within them.

mod client;
mod inbox;
mod shard;
#[cfg(test)]
mod tests;
mod topics;
mod wake;
#[cfg(test)]
mod wake_model;

/// What `wake` is built from; its model takes other ones.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) use parking_lot::Mutex;
}

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use self::inbox::TopicWaker;

use self::inbox::Inbox;
use self::shard::Shard;

/// What sources follow, by a number.
pub type Topic = i64;

/// What is sent at once: whole chunks of an HTTP/1.1 body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// Bytes for this client alone, sent before the shared ones.
    prefix: Bytes,
    /// Bytes that all clients at this position get, from the same memory.
    shared: Bytes,
}

/// What a source wants next.
pub enum NextStep<F> {
    /// The segment is to be written; the source is asked again then.
    Write(Segment),
    /// The source is to be given what this ends with. Meanwhile it is asked as ever.
    Fetch(BoxFuture<'static, F>),
    /// The source has nothing: it is asked again when a topic has moved, and by the next sweep.
    Wait,
    /// The segment is to be written; the source is dropped then.
    End(Segment),
}

/// One client's side of what it follows: what comes next for it.
///
/// One thread asks it, and must never wait: what takes time is fetched.
pub trait Source: Send + 'static {
    /// What a fetch brings.
    type Fetched: Send + 'static;

    /// What it follows; the same for as long as it lives. The first topic decides about the thread.
    fn topics(&self) -> Vec<Topic>;

    /// Subscribes `waker` to `topic`: it is woken whenever the topic moves, for as long as somebody holds it.
    fn subscribe(&self, topic: Topic, waker: &Arc<TopicWaker>);

    /// Whether the source ends now, with its next segment.
    fn must_end(&self, now: Instant) -> bool;

    /// What comes next at `now`. It is asked after each move, and several times a second anyway.
    fn next_step(&mut self, now: Instant) -> NextStep<Self::Fetched>;

    /// Applies what was fetched.
    fn apply(&mut self, fetched: Self::Fetched, now: Instant);
}

impl Segment {
    /// A segment that is the same for everybody at this position.
    #[must_use]
    pub fn shared(shared: Bytes) -> Self {
        Self {
            prefix: Bytes::new(),
            shared,
        }
    }

    /// The bytes in one buffer.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.prefix.is_empty() {
            return self.shared;
        }
        let mut all = BytesMut::from(self.prefix);
        all.extend_from_slice(&self.shared);
        all.freeze()
    }
}

/// The handle to all threads. Clones share them; when the last one is dropped the threads end with their last client.
pub struct Fanout<S: Source> {
    inboxes: Arc<Inboxes<S>>,
}

struct Inboxes<S: Source>(Vec<Arc<Inbox<S>>>);

impl<S: Source> Drop for Inboxes<S> {
    fn drop(&mut self) {
        self.0.iter().for_each(|inbox| inbox.close());
    }
}

impl<S: Source> Clone for Fanout<S> {
    fn clone(&self) -> Self {
        Self {
            inboxes: Arc::clone(&self.inboxes),
        }
    }
}

/// The ends of the threads, to wait for.
pub struct FanoutThreads(Vec<oneshot::Receiver<()>>);

impl<S: Source> Fanout<S> {
    /// Starts `threads` threads, at least one. They reset a connection whose client reads nothing for `write_stall`. What
    /// sources fetch runs on the present runtime.
    pub fn start(threads: usize, write_stall: Duration) -> io::Result<(Self, FanoutThreads)> {
        let (mut inboxes, mut ends) = (Vec::new(), Vec::new());
        for number in 0..threads.max(1) {
            let (shard, inbox) = Shard::new(Handle::current(), write_stall)?;
            let (ended, end) = oneshot::channel();
            thread::Builder::new().name(format!("fan-out-{number}")).spawn(move || {
                let _ended = ended;
                shard.run();
            })?;
            inboxes.push(inbox);
            ends.push(end);
        }
        let fanout = Self {
            inboxes: Arc::new(Inboxes(inboxes)),
        };
        Ok((fanout, FanoutThreads(ends)))
    }

    /// Adopts a connection that has sent the headers of a chunked response: from now on it sends what `source` says. `permit`
    /// is dropped when the connection is closed.
    pub fn adopt(&self, socket: TcpStream, permit: impl Send + 'static, source: S) {
        let topic = source.topics().first().copied().unwrap_or_default();
        let inboxes = &self.inboxes.0;
        let shard = topic.unsigned_abs() % inboxes.len() as u64;
        if let Some(inbox) = usize::try_from(shard).ok().and_then(|shard| inboxes.get(shard)) {
            inbox.push_connection(socket, Box::new(permit), source);
        }
    }

    /// Lets the threads end with their last client. Nothing is adopted after this.
    pub fn close(&self) {
        self.inboxes.0.iter().for_each(|inbox| inbox.close());
    }
}

impl FanoutThreads {
    /// The end of each thread. A room stays with its thread for good: without one of them the process is of no use.
    pub fn ends(self) -> impl Iterator<Item = impl Future<Output = ()> + Send + 'static> {
        self.0.into_iter().map(|end| end.map(|_| ()))
    }
}
