//! Writes live events to many sockets: a few threads, each with its own connections.
//!
//! A stream begins like any request. When the headers of its response are sent, its socket leaves the HTTP library and comes
//! here, to one thread for the rest of its life. The kernel's work of accepting bytes is nearly all that is left to do
//! then, and every task, lock and wake-up beside it would show.
//!
//! A connection goes to the thread that has the fewest, whatever it follows. If a topic belonged to one thread, that thread
//! would have to carry the hottest room alone while others idle, and a connection that follows many rooms would belong to
//! all of them. What it costs is that a room with connections everywhere wakes each thread once, instead of one thread.
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
//! client, when another thread wakes it (module `wake`), or at the next tick, in which the clients are visited that are due (module `shard`).
//! What it is woken for lies in its inbox: topics that have moved, new connections, pages of history (module `inbox`).
//!
//! A topic that has moved begins a pass over those who follow it (module `topics`). At each client's turn, and not before,
//! its source is told of the topic and asked for all that is new to it. So while there is little to do a message is written as soon as it is
//! there, and under load one write carries everything that came since the last pass: the more there is, the cheaper each
//! message gets, and no client waits for a fixed time. Other topics take turns with a long pass.
//!
//! A client whose socket is full keeps the rest of the current segment and its permit; the kernel reports when the socket
//! accepts more (module `client`). So a slow client costs nothing, falls behind the feed, and reads on in history. A source
//! that follows one topic writes bytes that all clients at the same position share; one that follows many writes bytes of its
//! own, and bounds them.
//!
//! Nothing here knows a room, a user or a message: a topic is a number. A [`Source`] may follow many topics, and others or none
//! as time goes on. Whatever concerns some clients and is no news of a room, such as a change of the set of rooms that a
//! user follows, is a topic of its own: whoever brings it wakes the topic.
//!
//! Clients whose socket cannot be taken from the HTTP library are served by the task of their request, by the same protocol
//! (module `body`).

mod body;
mod client;
mod endings;
mod inbox;
mod shard;
#[cfg(test)]
mod tests;
mod topic_wakers;
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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use self::body::body;
pub use self::endings::Endings;
pub use self::topic_wakers::{TopicWaker, TopicWakers};

use self::inbox::Inbox;
use self::shard::Shard;

/// What sources follow, by a number. Whoever makes them keeps those of different kinds apart.
pub type Topic = i64;

/// What a source wants next.
pub enum NextStep<F> {
    /// These bytes are to be written, whole chunks of an HTTP/1.1 body; the source is asked again then.
    Write(Bytes),
    /// The source is to be given what this ends with. Meanwhile it is asked as ever, and fetches nothing else.
    Fetch(BoxFuture<'static, F>),
    /// The source follows other topics from now on. It is asked again at once.
    Follow(TopicChanges),
    /// The source has nothing: it is asked again when a topic has moved, when it is due, and after [`Endings::note`].
    Wait,
    /// These bytes are to be written; the source is dropped then.
    End(Bytes),
}

/// How the set of topics that a source follows changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicChanges {
    /// It no longer follows these. They come first: a topic that is in both lists is subscribed to anew.
    pub dropped: Vec<Topic>,
    /// It follows these, too. Those that it follows already are left alone.
    pub added: Vec<Topic>,
}

/// One client's side of what it follows: what comes next for it.
///
/// One thread asks it, and must never wait: what takes time is fetched.
pub trait Source: Send + 'static {
    /// What a fetch brings.
    type Fetched: Send + 'static;

    /// What it follows at first, each topic once. [`NextStep::Follow`] changes it.
    fn topics(&self) -> Vec<Topic>;

    /// Subscribes `waker` to `topic`: it is woken whenever the topic moves, for as long as somebody holds it. What moves the
    /// topic keeps it in its [`TopicWakers`], which may have it already.
    fn subscribe(&self, topic: Topic, waker: &Arc<TopicWaker>);

    /// Notes that `topic` may have something new: it has moved, or was subscribed to just now. The source is asked then, as soon
    /// as its socket accepts more. It may also be told in vain, and of a topic that it has dropped. A source of one topic
    /// looks there whenever it is asked, and need not note anything.
    fn moved(&mut self, _topic: Topic) {}

    /// Whether the source ends now, with its next segment.
    fn must_end(&self, now: Instant) -> bool;

    /// Resolves when the source must end for a reason that comes from outside, and not by the time. Whoever gives the reason notes it in
    /// [`Endings`], too.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// When it has something to write or to do although no topic moves.
    fn due(&self) -> Instant;

    /// What comes next at `now`. It is asked after each move and when it is due, and may be asked in vain.
    fn next_step(&mut self, now: Instant) -> NextStep<Self::Fetched>;

    /// Applies what was fetched.
    fn apply(&mut self, fetched: Self::Fetched, now: Instant);
}

/// The handle to all threads. Clones share them; when the last one is dropped the threads end with their last client.
pub struct Fanout<S: Source> {
    inboxes: Arc<Inboxes<S>>,
}

struct Inboxes<S: Source> {
    all: Vec<Arc<Inbox<S>>>,
    endings: Endings,
    /// Connections adopted ever: among threads with equally few connections each has its turn.
    adopted: AtomicUsize,
}

impl<S: Source> Inboxes<S> {
    /// The thread with the fewest connections.
    fn least_loaded(&self) -> Option<&Arc<Inbox<S>>> {
        let first = self.adopted.fetch_add(1, Ordering::Relaxed) % self.all.len().max(1);
        let (before, from_first) = self.all.split_at(first);
        from_first.iter().chain(before).min_by_key(|inbox| inbox.connections())
    }

    fn close(&self) {
        self.all.iter().for_each(|inbox| inbox.close());
    }
}

impl<S: Source> Drop for Inboxes<S> {
    fn drop(&mut self) {
        self.close();
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
        let (mut inboxes, mut ends, endings) = (Vec::new(), Vec::new(), Endings::default());
        for number in 0..threads.max(1) {
            let (shard, inbox) = Shard::new(Handle::current(), write_stall, endings.clone())?;
            let (ended, end) = oneshot::channel();
            thread::Builder::new().name(format!("fan-out-{number}")).spawn(move || {
                let _ended = ended;
                shard.run();
            })?;
            inboxes.push(inbox);
            ends.push(end);
        }
        let fanout = Self {
            inboxes: Arc::new(Inboxes {
                all: inboxes,
                endings,
                adopted: AtomicUsize::new(0),
            }),
        };
        Ok((fanout, FanoutThreads(ends)))
    }

    /// Adopts a connection that has sent the headers of a chunked response: from now on it sends what `source` says. `permit`
    /// is dropped when the connection is closed.
    pub fn adopt(&self, socket: TcpStream, permit: impl Send + 'static, source: S) {
        if let Some(inbox) = self.inboxes.least_loaded() {
            inbox.push_connection(socket, Box::new(permit), source);
        }
    }

    /// Where it is noted that a source must end.
    #[must_use]
    pub fn endings(&self) -> &Endings {
        &self.inboxes.endings
    }

    /// Lets the threads end with their last client. Nothing is adopted after this.
    pub fn close(&self) {
        self.inboxes.close();
    }
}

impl FanoutThreads {
    /// The end of each thread. A connection stays with its thread for good, and the thread with the fewest connections gets the
    /// next one: without one of them the process is of no use.
    pub fn ends(self) -> impl Iterator<Item = impl Future<Output = ()> + Send + 'static> {
        self.0.into_iter().map(|end| end.map(|_| ()))
    }
}
