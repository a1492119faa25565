//! A thread of keep-alive connections, each with at most one request in flight: a post, a page of history, or a typing call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rig::{Failure, Latencies, Result};

use crate::client::client_socket::connect;
use crate::target::{Target, source_nets};
use crate::threads::clock::{Clock, thread_cpu_us};
use crate::threads::control::{CONTROL_INTERVAL, Control, Published, RequestCounters};
use crate::threads::keep_alive_connection::{CompletedRequest, KeepAliveConnection, State};
use crate::threads::request_cycle::RequestCycle;
use crate::threads::schedule::Schedule;

/// Most bytes read at once: a page of history in one read.
const READ_BUFFER: usize = 64 * 1024;
/// Time after which a connection that broke, or whose request was refused, goes on.
const RETRY_AFTER_US: u64 = 100_000;
/// Time after which a connection that waits for slow readers checks again.
const LAG_CHECK_US: u64 = 1_000;
/// How late the tool's own timer may fire without the delay counting as the server's: epoll counts in milliseconds.
const TIMER_SLACK_US: u64 = 1_500;
/// Longest time to wait for responses after the last request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Connections broken in a row after which the server counts as gone.
const MOST_BREAKS: u64 = 1_000;

/// What connections wait for, and for how many windows times are kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestLimits {
    /// Posting pauses while the slowest sampled stream is more than this many messages behind; 0 for no bound.
    pub(crate) lag: u64,
    /// Number of windows of the run.
    pub(crate) windows: usize,
}

/// The parameters of the thread.
pub(crate) struct RequestThread {
    pub(crate) target: Arc<Target>,
    pub(crate) control: Arc<Control>,
    pub(crate) published: Arc<Published<RequestCounters>>,
    pub(crate) clock: Clock,
    /// The requests of each connection.
    pub(crate) cycles: Vec<RequestCycle>,
    pub(crate) limits: RequestLimits,
    /// Stops the thread after the responses to the requests in flight.
    pub(crate) finish: Arc<AtomicBool>,
}

/// The results of the thread when it ends.
pub(crate) struct RequestResults {
    /// Times from request to response, one histogram for each window.
    pub(crate) latencies: Vec<Latencies>,
}

impl RequestThread {
    /// Runs until it is asked to finish, or the requests of all connections were answered.
    pub(crate) fn run(self) -> Result<RequestResults> {
        RequestLoop::new(self)?.run()
    }
}

struct RequestLoop {
    thread: RequestThread,
    poll: Poll,
    connections: Vec<KeepAliveConnection>,
    /// When idle connections send next, and when broken ones connect again.
    schedule: Schedule,
    counters: RequestCounters,
    latencies: Vec<Latencies>,
    buffer: Vec<u8>,
    breaks_in_a_row: u64,
    /// Requests of all connections together that succeed before the thread ends; `None` for no bound.
    total: Option<u64>,
}

impl RequestLoop {
    fn new(mut thread: RequestThread) -> Result<Self> {
        let cycles = std::mem::take(&mut thread.cycles);
        let (now, count) = (thread.clock.micros(), cycles.len().max(1) as u64);
        let mut schedule = Schedule::new(cycles.len());
        let total = cycles.iter().map(|cycle| cycle.limit).sum();
        let mut connections = Vec::with_capacity(cycles.len());
        for (at, cycle) in cycles.into_iter().enumerate() {
            // Connections begin evenly apart, so that a rate has no bursts.
            let due = now + cycle.every_us.unwrap_or(0) * at as u64 / count;
            connections.push(KeepAliveConnection::new(cycle, due));
            schedule.add(at, due);
        }
        Ok(Self {
            poll: Poll::new()?,
            schedule,
            counters: RequestCounters::default(),
            latencies: vec![Latencies::new(); thread.limits.windows],
            buffer: vec![0; READ_BUFFER],
            breaks_in_a_row: 0,
            total,
            connections,
            thread,
        })
    }

    fn run(mut self) -> Result<RequestResults> {
        let mut events = Events::with_capacity(self.connections.len().max(1));
        let mut next_publication = Instant::now();
        let mut deadline = None;
        while !self.thread.control.is_stopping() {
            match self.poll.poll(&mut events, Some(self.wait())) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                self.handle_event(event.token().0);
            }
            if Instant::now() >= next_publication {
                self.publish();
                next_publication = Instant::now() + CONTROL_INTERVAL;
            }
            if self.is_finishing() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + ANSWER_WITHIN);
                let unanswered = self.connections.iter().filter(|connection| connection.is_busy()).count();
                if unanswered == 0 || Instant::now() >= deadline {
                    self.counters.broken += unanswered as u64;
                    break;
                }
            } else {
                self.send_due()?;
            }
        }
        self.publish();
        Ok(RequestResults {
            latencies: self.latencies,
        })
    }

    fn publish(&mut self) {
        self.counters.busy_us = thread_cpu_us();
        self.thread.published.publish(&self.counters);
    }

    fn is_finishing(&self) -> bool {
        let is_done = self.total.is_some_and(|total| self.counters.answered + self.counters.broken >= total);
        is_done || self.thread.finish.load(Ordering::Relaxed)
    }

    /// Time until the next connection is due, at most until the next look at the control.
    fn wait(&self) -> Duration {
        if self.is_finishing() {
            return CONTROL_INTERVAL;
        }
        let now = self.thread.clock.micros();
        let next = self.schedule.next_due().map_or(u64::MAX, |due| due.saturating_sub(now));
        CONTROL_INTERVAL.min(Duration::from_micros(next))
    }

    /// Lets the connections that are due send or connect.
    fn send_due(&mut self) -> Result<()> {
        let now = self.thread.clock.micros();
        while let Some(at) = self.schedule.pop_due(now) {
            if self.connections[at].socket.is_none() {
                if self.breaks_in_a_row > MOST_BREAKS {
                    return Err(Failure::new(format!("{MOST_BREAKS} connections in a row broke")));
                }
                self.open(at)?;
            } else if self.connections[at].state == State::Idle {
                self.send_next(at);
            }
        }
        Ok(())
    }

    fn open(&mut self, at: usize) -> Result<()> {
        let target = &self.thread.target;
        let mut socket = connect(target.address(at), target.source_addresses(at, source_nets::REQUESTS), at, None)?;
        self.poll.registry().register(&mut socket, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        self.connections[at].connect_over(socket);
        Ok(())
    }

    /// Connection `at` sends its next request, unless it has sent all of them.
    fn send_next(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.limit.is_some_and(|limit| connection.sent_requests >= limit) {
            return;
        }
        let now = self.thread.clock.micros();
        if self.thread.limits.lag > 0 && self.thread.control.lag() > self.thread.limits.lag {
            self.schedule.add(at, now + LAG_CHECK_US);
            return;
        }
        // A request that could not be sent in time, because the last one was in flight, counts from when it was due;
        // the slack of the tool's own timer does not count.
        let is_late = connection.every_us.is_some() && now.saturating_sub(connection.due) > TIMER_SLACK_US;
        if connection.send_next(if is_late { connection.due } else { now }).is_err() {
            self.reconnect_later(at);
        }
    }

    /// Continues with connection `at`, which is readable or writable.
    fn handle_event(&mut self, at: usize) {
        let was_connecting = self.connections[at].state == State::Connecting;
        let target = &self.thread.target;
        let connection = &mut self.connections[at];
        let result = connection
            .send()
            .and_then(|()| connection.read(&mut self.buffer, |status| target.is_success(status)));
        match result {
            Err(_) => self.reconnect_later(at),
            Ok(Some(completed)) => self.complete(at, &completed),
            Ok(None) if was_connecting && connection.state == State::Idle => self.schedule.add(at, connection.due),
            Ok(None) => {}
        }
    }

    /// Counts a completed request, and schedules what connection `at` does next.
    fn complete(&mut self, at: usize, completed: &CompletedRequest) {
        let now = self.thread.clock.micros();
        let connection = &mut self.connections[at];
        self.breaks_in_a_row = 0;
        *self.counters.statuses.entry(completed.status).or_default() += 1;
        if !self.thread.target.is_success(completed.status) {
            self.counters.refusal.get_or_insert_with(|| format!("{} {}", completed.status, completed.refusal));
            // The request that is due stays due.
            self.schedule.add(at, now + RETRY_AFTER_US);
            return;
        }
        if completed.is_short {
            self.counters.broken += 1;
        } else if !connection.is_uncounted {
            self.counters.answered += 1;
        }
        if completed.is_post {
            self.thread.control.acknowledged[completed.room].fetch_add(1, Ordering::Relaxed);
        }
        let window = self.thread.control.window.load(Ordering::Relaxed);
        let times = window
            .checked_sub(1)
            .filter(|_| !connection.is_uncounted)
            .and_then(|window| self.latencies.get_mut(window));
        if let Some(times) = times {
            times.record(now.saturating_sub(completed.due));
        }
        if let Some(every) = connection.every_us {
            connection.due += every;
            self.schedule.add(at, connection.due);
        } else if !self.is_finishing() {
            self.send_next(at);
        }
    }

    /// Connects again later after the connection broke.
    fn reconnect_later(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.is_busy() {
            self.counters.broken += 1;
        }
        connection.disconnect();
        self.breaks_in_a_row += 1;
        self.schedule.add(at, self.thread.clock.micros() + RETRY_AFTER_US);
    }
}
