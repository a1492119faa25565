//! One thread of the fan-out, with its clients and their topics.

use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use tokio::runtime::Handle;
use tracing::{debug, error};

use super::client::{Client, Phase};
use super::inbox::{Fetched, Inbox, NewConnection};
use super::topics::Topics;
use super::{NextStep, Source};

/// The event of a wake-up by another thread; the tokens of all others are keys of clients.
const WAKE: Token = Token(usize::MAX);

/// Events fetched from the kernel at once. What does not fit comes with the next call.
const EVENTS: usize = 1_024;

/// Turns of topics, and of clients with more to write, between two polls.
const MAX_TURNS: usize = 4;

/// Segments written to one client in a row; then others are served.
const MAX_SEGMENTS: usize = 4;

/// Every client is visited once in `SWEEP_PARTS` sweeps. So a stream that is to end does so within 0.2 s, and a heartbeat
/// is late by as much. One tick for all takes the place of a timer for each.
const SWEEP_EVERY: Duration = Duration::from_millis(50);
const SWEEP_PARTS: usize = 4;

/// How long a stream that must end waits for a client that reads nothing.
const MAX_ENDING: Duration = Duration::from_secs(1);

/// How long a client that was sent everything may take to close its side.
const MAX_CLOSING: Duration = Duration::from_secs(1);

/// The state of one thread.
pub(super) struct Shard<S: Source> {
    poll: Poll,
    inbox: Arc<Inbox<S>>,
    clients: Slab<Client<S>>,
    topics: Topics,
    /// Clients that had more to write than one turn allows.
    busy: VecDeque<usize>,
    /// When the next part of the clients is visited, and from which key on.
    sweep: (Instant, usize),
    closed: bool,
    /// Clients there ever were.
    count: u64,
    runtime: Handle,
    write_stall: Duration,
}

impl<S: Source> Shard<S> {
    /// A thread's state, and the mailbox through which others reach it.
    pub(super) fn new(runtime: Handle, write_stall: Duration) -> io::Result<(Self, Arc<Inbox<S>>)> {
        let poll = Poll::new()?;
        let inbox = Arc::new(Inbox::new(poll.registry(), WAKE)?);
        let shard = Self {
            poll,
            inbox: Arc::clone(&inbox),
            clients: Slab::new(),
            topics: Topics::default(),
            busy: VecDeque::new(),
            sweep: (Instant::now(), 0),
            closed: false,
            count: 0,
            runtime,
            write_stall,
        };
        Ok((shard, inbox))
    }

    /// Works until the mailbox is closed and the last client has gone.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut turn = Vec::new();
        while !(self.closed && self.clients.is_empty()) {
            let longest = self.longest_sleep();
            if let Err(error) = self.poll.poll(&mut events, longest)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // The kernel refuses only impossible requests, and the process must not go on without these streams.
                error!(error = %error, "a thread of the fan-out cannot wait for its sockets: {error}");
                return;
            }
            self.inbox.mark_awake();
            let now = Instant::now();
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.on_event(event, now);
            }
            self.drain_inbox(now);
            for _ in 0..MAX_TURNS {
                self.topics.next_clients(&mut turn);
                for key in &turn {
                    self.serve(*key, now);
                }
                self.serve_busy(now);
            }
            self.sweep(now);
        }
    }

    /// How long the thread may sleep unless it is woken; `None` for ever.
    fn longest_sleep(&self) -> Option<Duration> {
        let is_idle = !self.topics.has_passes() && self.busy.is_empty() && self.inbox.begin_sleep(self.closed);
        match (is_idle, self.clients.is_empty()) {
            (false, _) => Some(Duration::ZERO),
            (true, true) => None,
            (true, false) => Some(self.sweep.0.saturating_duration_since(Instant::now())),
        }
    }

    fn on_event(&mut self, event: &Event, now: Instant) {
        let Token(key) = event.token();
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if event.is_error() || event.is_read_closed() || (event.is_readable() && client.discard_input().is_err()) {
            self.remove(key);
        } else if event.is_writable() {
            client.unblock();
            self.serve(key, now);
        }
    }

    fn drain_inbox(&mut self, now: Instant) {
        let (mail, moved) = self.inbox.drain();
        self.closed = mail.closed;
        for topic in moved {
            self.topics.start_pass(topic);
        }
        for connection in mail.connections {
            self.adopt(connection, now);
        }
        for Fetched { client, key, outcome } in mail.fetched {
            // The client may have left, and another one may have its key.
            let waiting = self.clients.get_mut(key).filter(|found| found.number == client);
            match (waiting, outcome) {
                (Some(waiting), Some(fetched)) => {
                    waiting.source.apply(fetched, now);
                    self.serve(key, now);
                }
                // The client would wait for ever. Closed, it comes back and asks again.
                (Some(_), None) => self.remove(key),
                (None, _) => {}
            }
        }
    }

    fn adopt(&mut self, NewConnection { socket, permit, source }: NewConnection<S>, now: Instant) {
        self.count += 1;
        let mut client = Client::new(self.count, mio::net::TcpStream::from_std(socket), permit, source);
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        // The kernel reports changes: that a full socket accepts more, and that the client closes. So a socket is
        // registered once and never again.
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(client.socket(), Token(key), interest) {
            debug!(error = %error, "a stream could not be taken over: {error}");
            return;
        }
        for topic in client.source.topics() {
            let (index, new) = self.topics.join(topic, key, |index| self.inbox.topic_waker(index));
            client.topics.push(index);
            if let Some(waker) = new {
                client.source.subscribe(topic, &waker);
            }
        }
        entry.insert(client);
        // After the subscription: what came before is found now, and what comes from now on wakes the topic.
        self.serve(key, now);
    }

    fn serve_busy(&mut self, now: Instant) {
        let Some(key) = self.busy.pop_front() else {
            return;
        };
        if let Some(client) = self.clients.get_mut(key) {
            client.is_busy = false;
            self.serve(key, now);
        }
    }

    /// Writes to a client what its source has, at most `MAX_SEGMENTS`.
    fn serve(&mut self, key: usize, now: Instant) {
        for _ in 0..MAX_SEGMENTS {
            let Some(client) = self.clients.get_mut(key) else {
                return;
            };
            match client.flush(now) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return self.remove(key),
            }
            match client.phase {
                Phase::Open => match client.source.next_step(now) {
                    NextStep::Write(segment) => client.set_unsent(segment),
                    NextStep::End(segment) => {
                        client.phase = Phase::Ending;
                        client.set_unsent(segment);
                    }
                    NextStep::Fetch(fetch) => {
                        let (inbox, client) = (Arc::clone(&self.inbox), client.number);
                        self.runtime.spawn(async move {
                            let outcome = AssertUnwindSafe(fetch).catch_unwind().await.ok();
                            inbox.push_fetched(Fetched { client, key, outcome });
                        });
                        return;
                    }
                    NextStep::Wait => return,
                },
                Phase::Ending => {
                    client.phase = Phase::Ended;
                    client.set_last_chunk();
                }
                Phase::Ended => {
                    client.phase = Phase::Closing(now);
                    if client.finish().is_err() {
                        self.remove(key);
                    }
                    return;
                }
                Phase::Closing(_) => return,
            }
        }
        if let Some(client) = self.clients.get_mut(key)
            && !client.is_busy
        {
            client.is_busy = true;
            self.busy.push_back(key);
        }
    }

    /// Visits a part of the clients: asks their sources, which may have something to write or to do although no topic has
    /// moved, and closes the clients that read nothing.
    fn sweep(&mut self, now: Instant) {
        let (due, from) = self.sweep;
        if now < due {
            return;
        }
        let all = self.clients.capacity();
        let upto = from + all.div_ceil(SWEEP_PARTS);
        for key in from..upto.min(all) {
            self.visit(key, now);
        }
        self.sweep = (now + SWEEP_EVERY, if upto < all { upto } else { 0 });
    }

    fn visit(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        if let Some(since) = client.stalled_since() {
            let stalled = now.duration_since(since);
            if stalled >= self.write_stall || (stalled >= MAX_ENDING && client.source.must_end(now)) {
                client.reset_on_drop();
                self.remove(key);
            }
            return;
        }
        match client.phase {
            Phase::Closing(since) if now.duration_since(since) >= MAX_CLOSING => self.remove(key),
            _ => self.serve(key, now),
        }
    }

    fn remove(&mut self, key: usize) {
        if let Some(client) = self.clients.try_remove(key) {
            for topic in &client.topics {
                self.topics.leave(*topic, key);
            }
        }
    }
}
