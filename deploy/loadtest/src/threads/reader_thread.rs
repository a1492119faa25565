//! A thread that holds its share of the streams: one epoll, one buffer to read into, and for each message no more work
//! than finding its id.

mod steering;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rig::{Failure, Latencies, Result};

use crate::client::client_socket::connect;
use crate::client::user_check::UserCheck;
use crate::plan::Plan;
use crate::target::{Target, source_nets};
use crate::threads::clock::Clock;
use crate::threads::control::{CONTROL_INTERVAL, Control, Published, ReaderCounters};
use crate::threads::stream_client::{Followed, Observations, ReadOutcome, StreamClient};

/// Most bytes read at once: a saturated stream has as much waiting in its socket.
const READ_BUFFER: usize = 256 * 1024;
/// Most events received from epoll at once.
const EVENTS: usize = 1_024;
/// Streams of a thread that are being opened at the same time. The others wait, so that no backlog of connections
/// overflows.
const MOST_OPENING: usize = 128;
/// Bytes that the kernel accepts for a stream that will stall: its share of the load for half a second, so that it is
/// the gateway that has to hold the rest.
const STALLED_RECEIVE_BUFFER: usize = 32 * 1024;
/// Time after which a stream that was ended or refused is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(300);
/// Refusals in a row after which a stream is given up.
const MOST_REFUSALS: u32 = 10;

/// The results of a thread when it ends.
pub(crate) struct ReaderResults {
    /// Times from post to event, one histogram for each window.
    pub(crate) latencies: Vec<Latencies>,
    /// Time from reconnecting until a stream had caught up, of all streams.
    pub(crate) catch_up: Latencies,
}

/// The parameters of a reader thread.
pub(crate) struct ReaderThread {
    pub(crate) target: Arc<Target>,
    pub(crate) plan: Plan,
    pub(crate) control: Arc<Control>,
    pub(crate) published: Arc<Published<ReaderCounters>>,
    pub(crate) clock: Clock,
    /// The thread has the streams whose number is congruent to this one modulo the number of threads.
    pub(crate) number: usize,
}

impl ReaderThread {
    /// Runs until [`Control::stop`] is set.
    pub(crate) fn run(self) -> Result<ReaderResults> {
        ReaderLoop::new(self)?.run()
    }
}

struct ReaderLoop {
    thread: ReaderThread,
    poll: Poll,
    streams: Vec<StreamClient>,
    /// Streams on which latency is measured.
    sampled: Vec<usize>,
    observations: Observations,
    catch_up: Latencies,
    buffer: Vec<u8>,
    /// Streams to open, in order.
    waiting: VecDeque<usize>,
    /// Streams to open later; all wait equally long, so that they are in order of time.
    reopening: VecDeque<(Instant, usize)>,
    /// Streams that are being opened.
    opening: usize,
    /// Streams with more to read, for which epoll reports no further event.
    unfinished_reads: Vec<usize>,
    is_disconnected: bool,
    is_stalling: bool,
    catch_up_check: usize,
    next_steering: Instant,
}

impl ReaderLoop {
    fn new(thread: ReaderThread) -> Result<Self> {
        let plan = &thread.plan;
        let numbers = (thread.number..plan.streams).step_by(plan.threads);
        let stream = |number: usize| {
            let is_sampled = plan.is_sampled(number);
            StreamClient::new(followed(&thread.target, plan, number), is_sampled)
        };
        let streams: Vec<StreamClient> = numbers.map(stream).collect();
        let sampled = (0..streams.len()).filter(|at| streams[*at].is_sampled).collect();
        Ok(Self {
            poll: Poll::new()?,
            observations: Observations {
                counters: ReaderCounters::default(),
                latencies: vec![Latencies::new(); plan.windows()],
                window: 0,
            },
            catch_up: Latencies::new(),
            buffer: vec![0; READ_BUFFER],
            waiting: (0..streams.len()).collect(),
            reopening: VecDeque::new(),
            opening: 0,
            unfinished_reads: Vec::new(),
            is_disconnected: false,
            is_stalling: false,
            catch_up_check: 0,
            next_steering: Instant::now(),
            streams,
            sampled,
            thread,
        })
    }

    fn run(mut self) -> Result<ReaderResults> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.thread.control.is_stopping() {
            let wait = if self.unfinished_reads.is_empty() {
                CONTROL_INTERVAL
            } else {
                Duration::ZERO
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                let at = event.token().0;
                if event.is_writable() {
                    self.send(at);
                }
                if event.is_readable() {
                    // After the peer has closed, epoll reports no further event: the stream is read to its end.
                    self.read(at, event.is_read_closed());
                }
                self.steer_in_time();
            }
            for at in std::mem::take(&mut self.unfinished_reads) {
                self.read(at, false);
                self.steer_in_time();
            }
            self.steer_in_time();
            self.open_waiting();
        }
        self.thread.published.publish(&self.observations.counters);
        Ok(ReaderResults {
            latencies: self.observations.latencies,
            catch_up: self.catch_up,
        })
    }

    /// The number of a stream of this thread among all streams of the run.
    fn number(&self, at: usize) -> usize {
        self.thread.number + at * self.thread.plan.threads
    }

    fn open_waiting(&mut self) {
        let now = Instant::now();
        while let Some((_, at)) = self.reopening.pop_front_if(|(due, _)| *due <= now) {
            self.waiting.push_back(at);
        }
        let open_limit = self.thread.control.open_limit.load(Ordering::Relaxed);
        while self.opening < MOST_OPENING && !self.is_disconnected {
            let Some(at) = self.waiting.front().copied().filter(|at| self.number(*at) < open_limit) else {
                return;
            };
            self.waiting.pop_front();
            self.opening += 1;
            if let Err(failure) = self.open(at) {
                self.close(at, Some(failure));
            }
        }
    }

    fn open(&mut self, at: usize) -> Result<()> {
        let number = self.number(at);
        let (target, plan) = (&self.thread.target, &self.thread.plan);
        let address = target.address(number);
        let stream = &mut self.streams[at];
        let user = target.user_of_stream(number, plan.streams);
        let request = stream.followed.request(target, address, user);
        let (net, receive_buffer) = if plan.is_stalled(number) {
            (source_nets::STALLED_STREAMS, Some(STALLED_RECEIVE_BUFFER))
        } else {
            (source_nets::STREAMS, None)
        };
        let mut socket = connect(address, target.source_addresses(number, net), number, receive_buffer)?;
        self.poll.registry().register(&mut socket, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        stream.connect_over(socket, request);
        Ok(())
    }

    fn send(&mut self, at: usize) {
        let Some(connection) = &mut self.streams[at].connection else {
            return;
        };
        let sent = connection.send().and_then(|is_sent| {
            if is_sent {
                self.poll.registry().reregister(&mut connection.socket, Token(at), Interest::READABLE)?;
            }
            Ok(())
        });
        if let Err(failure) = sent {
            self.close(at, Some(failure));
        }
    }

    fn read(&mut self, at: usize, is_closed_by_peer: bool) {
        let stream = &mut self.streams[at];
        if stream.is_stalled {
            return;
        }
        let was_open = stream.connection.as_ref().is_some_and(|connection| connection.is_open);
        let clock = self.thread.clock;
        let outcome = stream.read(&mut self.buffer, || clock.micros(), &mut self.observations);
        if !was_open && stream.connection.as_ref().is_some_and(|connection| connection.is_open) {
            stream.refusals = 0;
            self.opening -= 1;
            self.observations.counters.open += 1;
        }
        match outcome {
            Ok(ReadOutcome::Drained) if !is_closed_by_peer => {}
            Ok(ReadOutcome::Closed) => self.close(at, None),
            Ok(ReadOutcome::Drained | ReadOutcome::More) => self.unfinished_reads.push(at),
            Err(failure) => self.close(at, Some(failure)),
        }
    }

    /// Ends the connection of a stream, which is opened again later.
    fn close(&mut self, at: usize, failure: Option<Failure>) {
        let stream = &mut self.streams[at];
        let connection = stream.connection.take();
        let counters = &mut self.observations.counters;
        if connection.as_ref().is_some_and(|connection| connection.is_open) {
            counters.open -= 1;
            counters.reconnects += 1;
        } else {
            self.opening -= 1;
            stream.refusals += 1;
            if counters.refusal.is_none() {
                let refusal = connection.and_then(|connection| connection.refusal());
                counters.refusal = refusal.or_else(|| failure.map(|failure| failure.to_string()));
            }
        }
        if stream.refusals >= MOST_REFUSALS {
            counters.given_up += 1;
        } else {
            self.reopening.push_back((Instant::now() + REOPEN_AFTER, at));
        }
    }

    fn steer_in_time(&mut self) {
        let now = Instant::now();
        if now >= self.next_steering {
            self.steer();
            self.next_steering = now + CONTROL_INTERVAL;
        }
    }
}

/// What stream `number` of `plan` follows.
fn followed(target: &Target, plan: &Plan, number: usize) -> Followed {
    let user = target.user_of_stream(number, plan.streams);
    if let Some(rooms) = target.rooms_of_user(user) {
        let rooms = rooms.iter().map(|room| (*room, target.other_entries(*room)));
        return Followed::AllRooms(UserCheck::new(rooms));
    }
    let room = number % plan.rooms;
    Followed::Room {
        room,
        order: target.order_check(room, plan.connections_per_room(), plan.is_sampled(number)),
    }
}
