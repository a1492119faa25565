//! One thread of the fan-out, with its clients and their topics.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use tokio::runtime::Handle;
use tracing::{debug, error};

use super::client::{Client, Phase};
use super::endings::Endings;
use super::inbox::{Fetched, Inbox, NewConnection};
use super::topics::{CLIENTS_PER_TURN, Topics};
use super::{NextStep, Source, Topic, TopicChanges};

/// The event of a wake-up by another thread; the tokens of all others are keys of clients.
const WAKE: Token = Token(usize::MAX);

/// Events fetched from the kernel at once. What does not fit comes with the next call.
const EVENTS: usize = 1_024;

/// Clients visited between two polls, in turns of topics. A client with more to write counts as a whole turn.
const MAX_VISITS: usize = 4 * CLIENTS_PER_TURN;

/// Segments written to one client in a row; then others are served.
const MAX_SEGMENTS: usize = 4;

/// How often the clients are visited that are due; a heartbeat is late by as much. One tick for all takes the place of a timer for each.
const TICK_EVERY: Duration = Duration::from_millis(50);

/// After some source was made to end from outside all clients are visited, in so many ticks, and in as many more if that happens again
/// meanwhile: a stream that is to end does so within 0.4 s.
const ENDING_TICKS: usize = 4;

/// When a client is visited again whose socket is full, or that is to close.
const RECHECK_AFTER: Duration = Duration::from_millis(200);

/// When the place of a client that has gone is looked at, in vain, unless another one has it by then.
const VACANT: Duration = Duration::from_hours(1);

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
    /// When each client is visited although nothing has happened, by its key. It lies apart from the clients, most of which a tick does not
    /// look at.
    due: Vec<Instant>,
    /// When the next tick is.
    tick_at: Instant,
    endings: Endings,
    /// How many endings there were when all clients began to be visited last.
    endings_seen: u64,
    /// The keys that are still to be visited for these.
    ending_keys: Range<usize>,
    closed: bool,
    /// Clients there ever were.
    count: u64,
    runtime: Handle,
    write_stall: Duration,
}

impl<S: Source> Shard<S> {
    /// A thread's state, and the mailbox through which others reach it.
    pub(super) fn new(runtime: Handle, write_stall: Duration, endings: Endings) -> io::Result<(Self, Arc<Inbox<S>>)> {
        let poll = Poll::new()?;
        let inbox = Arc::new(Inbox::new(poll.registry(), WAKE)?);
        let shard = Self {
            poll,
            inbox: Arc::clone(&inbox),
            clients: Slab::new(),
            topics: Topics::default(),
            busy: VecDeque::new(),
            due: Vec::new(),
            tick_at: Instant::now(),
            endings_seen: endings.count(),
            ending_keys: 0..0,
            endings,
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
            self.take_turns(&mut turn, now);
            self.tick(now);
        }
    }

    /// Visits clients whose topics have moved, and clients with more to write, until there are none or others must be looked after.
    fn take_turns(&mut self, turn: &mut Vec<usize>, now: Instant) {
        let mut visits = 0;
        while visits < MAX_VISITS {
            let moved = self.topics.next_clients(turn);
            if let Some(topic) = moved {
                for key in &*turn {
                    self.visit_moved(*key, topic, now);
                }
                visits += turn.len();
            }
            if self.serve_busy(now) {
                visits += CLIENTS_PER_TURN;
            } else if moved.is_none() {
                return;
            }
        }
    }

    /// How long the thread may sleep unless it is woken; `None` for ever.
    fn longest_sleep(&self) -> Option<Duration> {
        let is_idle = !self.topics.has_passes() && self.busy.is_empty() && self.inbox.begin_sleep(self.closed);
        match (is_idle, self.clients.is_empty()) {
            (false, _) => Some(Duration::ZERO),
            (true, true) => None,
            (true, false) => Some(self.tick_at.saturating_duration_since(Instant::now())),
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
        let (pending, moved) = self.inbox.drain();
        self.closed = pending.closed;
        for topic in moved {
            self.topics.start_pass(topic);
        }
        for connection in pending.connections {
            self.adopt(connection, now);
        }
        for Fetched { client, key, outcome } in pending.fetched {
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
            self.inbox.note_closed();
            return;
        }
        let topics = client.source.topics();
        entry.insert(client);
        if key >= self.due.len() {
            self.due.resize(key + 1, now);
        }
        self.topics.reserve(key, topics.len());
        self.follow(key, topics);
        // After the subscription: what came before is found now, and what comes from now on wakes the topic.
        self.serve(key, now);
    }

    fn follow(&mut self, key: usize, topics: Vec<Topic>) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        for topic in topics {
            let waker = self.topics.join(key, topic, |index| self.inbox.topic_waker(index));
            if let Some(waker) = waker {
                // For each client: what moves the topic may be another thing than for those that followed it before.
                client.source.subscribe(topic, &waker);
                client.source.moved(topic);
            }
        }
    }

    fn visit_moved(&mut self, key: usize, topic: Topic, now: Instant) {
        if let Some(client) = self.clients.get_mut(key) {
            client.source.moved(topic);
            self.serve(key, now);
        }
    }

    /// Serves one client that has more to write; false if there is none.
    fn serve_busy(&mut self, now: Instant) -> bool {
        let Some(key) = self.busy.pop_front() else {
            return false;
        };
        if let Some(client) = self.clients.get_mut(key) {
            client.is_busy = false;
            self.serve(key, now);
        }
        true
    }

    /// Writes to a client what its source has, at most `MAX_SEGMENTS`.
    fn serve(&mut self, key: usize, now: Instant) {
        for _ in 0..MAX_SEGMENTS {
            let Some(client) = self.clients.get_mut(key) else {
                return;
            };
            match client.flush(now) {
                Ok(true) => {}
                Ok(false) => {
                    self.due[key] = now + RECHECK_AFTER;
                    return;
                }
                Err(_) => return self.remove(key),
            }
            match client.phase {
                Phase::Open => match client.source.next_step(now) {
                    NextStep::Write(segment) => client.set_unsent(segment),
                    NextStep::End(segment) => {
                        client.phase = Phase::Ending;
                        client.set_unsent(segment);
                    }
                    NextStep::Fetch(fetch) => self.fetch(key, fetch),
                    NextStep::Follow(TopicChanges { dropped, added }) => {
                        for topic in dropped {
                            self.topics.leave(key, topic);
                        }
                        self.follow(key, added);
                    }
                    NextStep::Wait => {
                        self.due[key] = client.source.due();
                        return;
                    }
                },
                Phase::Ending => {
                    client.phase = Phase::Ended;
                    client.set_last_chunk();
                }
                Phase::Ended => {
                    client.phase = Phase::Closing(now);
                    self.due[key] = now + RECHECK_AFTER;
                    if client.finish().is_err() {
                        self.remove(key);
                    }
                    return;
                }
                Phase::Closing(_) => {
                    self.due[key] = now + RECHECK_AFTER;
                    return;
                }
            }
        }
        if let Some(client) = self.clients.get_mut(key)
            && !client.is_busy
        {
            client.is_busy = true;
            self.busy.push_back(key);
        }
    }

    /// Lets a task of the runtime fetch what a client's source asked for.
    fn fetch(&self, key: usize, fetch: BoxFuture<'static, S::Fetched>) {
        let Some(client) = self.clients.get(key).map(|client| client.number) else {
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        self.runtime.spawn(async move {
            let outcome = AssertUnwindSafe(fetch).catch_unwind().await.ok();
            inbox.push_fetched(Fetched { client, key, outcome });
        });
    }

    /// Visits the clients that are due, and a part of all of them after some source was made to end from outside.
    fn tick(&mut self, now: Instant) {
        if now < self.tick_at {
            return;
        }
        self.tick_at = now + TICK_EVERY;
        for key in 0..self.due.len() {
            if self.due[key] <= now {
                self.visit(key, now);
            }
        }
        let count = self.endings.count();
        if self.ending_keys.is_empty() && count != self.endings_seen {
            self.endings_seen = count;
            self.ending_keys = 0..self.due.len();
        }
        let Range { start, end } = self.ending_keys;
        let upto = end.min(start + self.due.len().div_ceil(ENDING_TICKS));
        for key in start..upto {
            self.visit(key, now);
        }
        self.ending_keys.start = upto;
    }

    fn visit(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        if let Some(since) = client.stalled_since() {
            self.due[key] = now + RECHECK_AFTER;
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
        if self.clients.try_remove(key).is_some() {
            self.due[key] = Instant::now() + VACANT;
            self.topics.leave_all(key);
            self.inbox.note_closed();
        }
    }
}
