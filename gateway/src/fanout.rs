//! Writing live events to many sockets: a few threads, each with its own connections.
//!
//! A stream begins like any request. When the head of its response is sent, its socket leaves the HTTP library and comes
//! here, to one thread for the rest of its life, because the kernel's work of taking bytes is nearly all that is left to
//! do, and every task, lock and wake-up beside it would show.
//!
//! ```text
//!            rings a waker                      asks for the next segment
//!   feed ─────────────────► inbox ──► shard ──────────────────────────► source (one client's position)
//!                          (wakes      │ ▲                                   │
//!                        the thread)   │ └── what history said ◄── a task ◄──┘ what is behind the feed
//!                                      ▼
//!                                   sockets
//! ```
//!
//! # How a thread knows what to do
//!
//! It sleeps in the kernel, in one call that ends when any of its sockets can be written to again or was closed by the
//! client, when somebody wakes it, or when it is time to look after everybody (module `shard`). What it is woken for lies in
//! its inbox: topics that have moved, new connections, segments of history (module `inbox`).
//!
//! A topic that has moved begins a pass over those who follow it (module `topics`). At each client's turn, and not before,
//! its source is asked for all that is new to it. So a message is written as soon as it is there while there is little to
//! do, and under load one write carries everything that came since the last pass: the more there is, the cheaper each
//! message gets, and no client waits for a fixed time. Other topics take turns with a long pass.
//!
//! A socket that takes no more keeps what is left of the segment in hand, which it shares with others at the same position,
//! and its place; the kernel says when it can go on (module `client`). So a slow client costs nothing, falls behind the feed,
//! and reads on in history.
//!
//! Nothing here knows a room, a user or a message. A [`Source`] may follow many topics; what it writes of its own, such as
//! a position, stands beside the shared bytes of a [`Segment`] and not within.

mod client;
mod inbox;
mod shard;
#[cfg(test)]
mod tests;
mod topics;

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

pub use inbox::TopicWaker;

use inbox::Inbox;
use shard::Shard;

/// What sources follow, by a number.
pub type Topic = i64;

/// What is sent at once: whole chunks of an HTTP/1.1 body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// For this client alone; before the rest.
    own: Bytes,
    /// What all clients at this position get, from the same memory.
    shared: Bytes,
}

/// What a source wants.
pub enum NextStep<F> {
    /// To have this written, and to be asked again then.
    Write(Segment),
    /// To be given what this ends with. It is asked meanwhile as ever.
    Fetch(BoxFuture<'static, F>),
    /// To be asked again when a topic has moved, or in a while.
    Wait,
    /// To have this written, and to be dropped then.
    End(Segment),
}

/// One client's side of what it follows: what comes next for it.
///
/// It is asked by one thread, which must never wait: what takes time is fetched.
pub trait Source: Send + 'static {
    /// What a fetch brings.
    type Fetched: Send + 'static;

    /// What it follows; the same for as long as it lives. The first one decides about the thread.
    fn topics(&self) -> Vec<Topic>;

    /// Has `waker` rung from now on whenever `topic` moves, for as long as somebody holds the waker.
    fn subscribe(&self, topic: Topic, waker: &Arc<TopicWaker>);

    /// Whether it ends now, with what it says next.
    fn must_end(&self, now: Instant) -> bool;

    /// What comes next at `now`. Asked after each move, and several times a second anyway.
    fn next_step(&mut self, now: Instant) -> NextStep<Self::Fetched>;

    /// Takes what was fetched.
    fn apply(&mut self, fetched: Self::Fetched, now: Instant);
}

impl Segment {
    /// A segment that is the same for everybody at this position.
    #[must_use]
    pub fn shared(shared: Bytes) -> Self {
        Self {
            own: Bytes::new(),
            shared,
        }
    }

    /// The bytes in one.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.own.is_empty() {
            return self.shared;
        }
        let mut all = BytesMut::from(self.own);
        all.extend_from_slice(&self.shared);
        all.freeze()
    }
}

/// The threads. Clones share them; when the last one is dropped they end with their last client.
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

/// To wait for their end.
pub struct FanoutThreads(Vec<oneshot::Receiver<()>>);

impl<S: Source> Fanout<S> {
    /// Starts `threads` threads, at least one, that reset a connection which takes nothing for `write_stall`. What sources
    /// fetch runs on the present runtime.
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

    /// Takes over a connection that has sent the head of a chunked response: from now on it sends what `source` says.
    /// `place` is dropped when it is closed.
    pub fn adopt(&self, socket: TcpStream, permit: impl Send + 'static, source: S) {
        let topic = source.topics().first().copied().unwrap_or_default();
        let inboxes = &self.inboxes.0;
        let shard = topic.unsigned_abs() % inboxes.len() as u64;
        if let Some(inbox) = usize::try_from(shard).ok().and_then(|shard| inboxes.get(shard)) {
            inbox.push_connection(socket, Box::new(permit), source);
        }
    }

    /// Lets the threads end with their last client. Nothing is handed over after this.
    pub fn close(&self) {
        self.inboxes.0.iter().for_each(|inbox| inbox.close());
    }
}

impl FanoutThreads {
    /// The end of each of them. Rooms have their thread for good: without one of them the process is of no use.
    pub fn ends(self) -> impl Iterator<Item = impl Future<Output = ()> + Send + 'static> {
        self.0.into_iter().map(|end| end.map(|_| ()))
    }
}
