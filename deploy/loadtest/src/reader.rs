//! A thread that holds its share of the streams: one epoll, one buffer to read into, and for each message no more work
//! than finding its id.

mod commands;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rig::{Failure, Latencies, Result};

use crate::clock::Clock;
use crate::orders::{Board, Orders, Reading, TICK};
use crate::plan::Plan;
use crate::site::{Site, kinds};
use crate::stream::{Sight, Stream, Turn};
use crate::wire::connect;

/// Bytes read at once: a saturated stream has as much waiting in its socket.
const BUFFER: usize = 256 * 1024;
/// Events taken from epoll at once.
const EVENTS: usize = 1_024;
/// Streams of a thread that are being opened at the same time. The others wait, so that no backlog of connections overflows.
const OPENING: usize = 128;
/// Bytes that the kernel is to take for a stream that will stall: its share of the load for half a second, so that it is
/// the gateway that has to wait.
const STALLED_BUFFER: usize = 32 * 1024;
/// When a stream that was ended or refused comes back.
const RETURN_AFTER: Duration = Duration::from_millis(300);
/// Refusals in a row after which a client is lost.
const REFUSALS: u32 = 10;

/// What a thread has seen when it ends.
pub(crate) struct Seen {
    /// Times from post to event, one for each window.
    pub(crate) latencies: Vec<Latencies>,
    /// How long each client took to catch up after it had been let back.
    pub(crate) catch_up: Latencies,
}

/// What a reading thread is given.
pub(crate) struct Reader {
    pub(crate) site: Arc<Site>,
    pub(crate) plan: Plan,
    pub(crate) orders: Arc<Orders>,
    pub(crate) board: Arc<Board<Reading>>,
    pub(crate) clock: Clock,
    /// It has the streams whose number is this one modulo the number of threads.
    pub(crate) number: usize,
}

impl Reader {
    /// Runs until it is told to stop.
    pub(crate) fn run(self) -> Result<Seen> {
        Clients::new(self)?.run()
    }
}

struct Clients {
    reader: Reader,
    poll: Poll,
    streams: Vec<Stream>,
    /// Those whose messages' times are taken.
    sampled: Vec<usize>,
    sight: Sight,
    catch_up: Latencies,
    buffer: Vec<u8>,
    /// Streams to open, when it is their turn.
    waiting: VecDeque<usize>,
    /// Streams to open later; all wait equally long, so that they are in order.
    later: VecDeque<(Instant, usize)>,
    /// How many are being opened.
    opening: usize,
    /// Streams with more to read, of which no event will tell.
    again: Vec<usize>,
    is_away: bool,
    is_stalling: bool,
    judgement: usize,
    next_look: Instant,
}

impl Clients {
    fn new(reader: Reader) -> Result<Self> {
        let plan = &reader.plan;
        let numbers = (reader.number..plan.streams).step_by(plan.threads);
        let stream = |number: usize| {
            let is_sampled = plan.is_sampled(number);
            Stream::new(number % plan.rooms, reader.site.order(plan.lanes(), is_sampled), is_sampled)
        };
        let streams: Vec<Stream> = numbers.map(stream).collect();
        let sampled = (0..streams.len()).filter(|at| streams[*at].is_sampled).collect();
        Ok(Self {
            poll: Poll::new()?,
            sight: Sight {
                reading: Reading::default(),
                latencies: vec![Latencies::new(); plan.windows()],
                window: 0,
            },
            catch_up: Latencies::new(),
            buffer: vec![0; BUFFER],
            waiting: (0..streams.len()).collect(),
            later: VecDeque::new(),
            opening: 0,
            again: Vec::new(),
            is_away: false,
            is_stalling: false,
            judgement: 0,
            next_look: Instant::now(),
            streams,
            sampled,
            reader,
        })
    }

    fn run(mut self) -> Result<Seen> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.reader.orders.stops() {
            let wait = if self.again.is_empty() { TICK } else { Duration::ZERO };
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
                    // Behind a closing there will be no further event: read until the end.
                    self.read(at, event.is_read_closed());
                }
                self.look_in_time();
            }
            for at in std::mem::take(&mut self.again) {
                self.read(at, false);
                self.look_in_time();
            }
            self.look_in_time();
            self.open_waiting();
        }
        self.reader.board.tell(&self.sight.reading);
        Ok(Seen {
            latencies: self.sight.latencies,
            catch_up: self.catch_up,
        })
    }

    /// The number of a stream of this thread among all of the run.
    fn number(&self, at: usize) -> usize {
        self.reader.number + at * self.reader.plan.threads
    }

    fn open_waiting(&mut self) {
        let now = Instant::now();
        while let Some((_, at)) = self.later.pop_front_if(|(due, _)| *due <= now) {
            self.waiting.push_back(at);
        }
        let may_open = self.reader.orders.may_open.load(Ordering::Relaxed);
        while self.opening < OPENING && !self.is_away {
            let Some(at) = self.waiting.front().copied().filter(|at| self.number(*at) < may_open) else {
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
        let (site, plan) = (&self.reader.site, &self.reader.plan);
        let door = site.door(number);
        let stream = &mut self.streams[at];
        let user = site.user_of_stream(number, plan.streams);
        let request = site.subscribe(door, stream.room, user, stream.order.position());
        let (kind, receive) = if plan.stalls(number) {
            (kinds::STALLERS, Some(STALLED_BUFFER))
        } else {
            (kinds::READERS, None)
        };
        let mut socket = connect(door, site.origin(number, kind), number, receive)?;
        self.poll.registry().register(&mut socket, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        stream.begin(socket, request);
        Ok(())
    }

    fn send(&mut self, at: usize) {
        let Some(link) = &mut self.streams[at].link else { return };
        let sent = link.send().and_then(|is_sent| {
            if is_sent {
                self.poll.registry().reregister(&mut link.socket, Token(at), Interest::READABLE)?;
            }
            Ok(())
        });
        if let Err(failure) = sent {
            self.close(at, Some(failure));
        }
    }

    fn read(&mut self, at: usize, to_the_end: bool) {
        let stream = &mut self.streams[at];
        if stream.is_stalled {
            return;
        }
        let was_open = stream.link.as_ref().is_some_and(|link| link.is_open);
        let clock = self.reader.clock;
        let turn = stream.read(&mut self.buffer, || clock.micros(), &mut self.sight);
        if !was_open && stream.link.as_ref().is_some_and(|link| link.is_open) {
            stream.refusals = 0;
            self.opening -= 1;
            self.sight.reading.open += 1;
        }
        match turn {
            Ok(Turn::Drained) if !to_the_end => {}
            Ok(Turn::Over) => self.close(at, None),
            Ok(Turn::Drained | Turn::More) => self.again.push(at),
            Err(failure) => self.close(at, Some(failure)),
        }
    }

    /// Ends the connection of a stream, which comes back later.
    fn close(&mut self, at: usize, failure: Option<Failure>) {
        let stream = &mut self.streams[at];
        let link = stream.link.take();
        let reading = &mut self.sight.reading;
        if link.as_ref().is_some_and(|link| link.is_open) {
            reading.open -= 1;
            reading.returns += 1;
        } else {
            self.opening -= 1;
            stream.refusals += 1;
            if reading.refusal.is_none() {
                let refusal = link.and_then(|link| link.refusal());
                reading.refusal = refusal.or_else(|| failure.map(|failure| failure.to_string()));
            }
        }
        if stream.refusals >= REFUSALS {
            reading.lost += 1;
        } else {
            self.later.push_back((Instant::now() + RETURN_AFTER, at));
        }
    }

    fn look_in_time(&mut self) {
        let now = Instant::now();
        if now >= self.next_look {
            self.look();
            self.next_look = now + TICK;
        }
    }
}
