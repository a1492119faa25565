//! A thread of keep-alive connections, each with one request at a time: posting, or asking for history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rig::{Failure, Latencies, Result};

use crate::agenda::Agenda;
use crate::clock::{Clock, thread_micros};
use crate::crew::Pace;
use crate::line::{Answered, Line, State};
use crate::orders::{Board, Calling, Orders, TICK};
use crate::script::Script;
use crate::site::{Site, kinds};
use crate::wire::connect;

/// Bytes read at once: a page of history in one read.
const BUFFER: usize = 64 * 1024;
/// When a line goes on that was refused or has lost its connection.
const PAUSE_US: u64 = 100_000;
/// When a line looks again that pauses until readers have caught up.
const HOLD_US: u64 = 1_000;
/// How late a timer of ours may fire without the server being blamed: epoll counts in milliseconds.
const SLACK_US: u64 = 1_500;
/// How long answers are waited for after the last request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Connections broken in a row after which the server counts as gone.
const BREAKS: u64 = 1_000;

/// What the callers are given.
pub(crate) struct Caller {
    pub(crate) site: Arc<Site>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) board: Arc<Board<Calling>>,
    pub(crate) clock: Clock,
    /// What each connection asks in turn.
    pub(crate) scripts: Vec<Script>,
    pub(crate) pace: Pace,
    /// Ends it, after the answers to what is on its way.
    pub(crate) finish: Arc<AtomicBool>,
}

/// What the callers have seen when they end.
pub(crate) struct Heard {
    /// Times from request to answer, one for each window.
    pub(crate) latencies: Vec<Latencies>,
}

impl Caller {
    /// Runs until it is told to finish, or everything asked for was answered.
    pub(crate) fn run(self) -> Result<Heard> {
        Switchboard::new(self)?.run()
    }
}

struct Switchboard {
    caller: Caller,
    poll: Poll,
    lines: Vec<Line>,
    /// When idle lines ask next, and when broken ones connect again.
    agenda: Agenda,
    calling: Calling,
    latencies: Vec<Latencies>,
    buffer: Vec<u8>,
    breaks_in_a_row: u64,
}

impl Switchboard {
    fn new(mut caller: Caller) -> Result<Self> {
        let scripts = std::mem::take(&mut caller.scripts);
        let (now, count) = (caller.clock.micros(), scripts.len().max(1) as u64);
        let mut agenda = Agenda::new(scripts.len());
        let mut lines = Vec::with_capacity(scripts.len());
        for (at, script) in scripts.into_iter().enumerate() {
            // Evenly apart, so that a rate is a rate and no bursts.
            let due = now + script.every_us.unwrap_or(0) * at as u64 / count;
            lines.push(Line::new(script, due));
            agenda.note(at, due);
        }
        Ok(Self {
            poll: Poll::new()?,
            agenda,
            calling: Calling::default(),
            latencies: vec![Latencies::new(); caller.pace.windows],
            buffer: vec![0; BUFFER],
            breaks_in_a_row: 0,
            lines,
            caller,
        })
    }

    fn run(mut self) -> Result<Heard> {
        let mut events = Events::with_capacity(self.lines.len().max(1));
        let mut next_look = Instant::now();
        let mut deadline = None;
        while !self.caller.orders.stops() {
            match self.poll.poll(&mut events, Some(self.wait())) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                self.turn(event.token().0);
            }
            if Instant::now() >= next_look {
                self.tell();
                next_look = Instant::now() + TICK;
            }
            if self.is_finishing() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + ANSWER_WITHIN);
                let unanswered = self.lines.iter().filter(|line| line.is_busy()).count();
                if unanswered == 0 || Instant::now() >= deadline {
                    self.calling.broken += unanswered as u64;
                    break;
                }
            } else {
                self.ask_due()?;
            }
        }
        self.tell();
        Ok(Heard {
            latencies: self.latencies,
        })
    }

    fn tell(&mut self) {
        self.calling.busy_us = thread_micros();
        self.caller.board.tell(&self.calling);
    }

    fn is_finishing(&self) -> bool {
        let total = self.caller.pace.limit_each.map(|each| each * self.lines.len() as u64);
        let is_done = total.is_some_and(|total| self.calling.answered + self.calling.broken >= total);
        is_done || self.caller.finish.load(Ordering::Relaxed)
    }

    /// Until the next line is due, or the next look.
    fn wait(&self) -> Duration {
        if self.is_finishing() {
            return TICK;
        }
        let now = self.caller.clock.micros();
        let next = self.agenda.next().map_or(u64::MAX, |due| due.saturating_sub(now));
        TICK.min(Duration::from_micros(next))
    }

    /// Lets everybody ask whose time has come.
    fn ask_due(&mut self) -> Result<()> {
        let now = self.caller.clock.micros();
        while let Some(at) = self.agenda.take(now) {
            if self.lines[at].socket.is_none() {
                if self.breaks_in_a_row > BREAKS {
                    return Err(Failure::new(format!("{BREAKS} connections in a row broke")));
                }
                self.open(at)?;
            } else if self.lines[at].state == State::Idle {
                self.ask(at);
            }
        }
        Ok(())
    }

    fn open(&mut self, at: usize) -> Result<()> {
        let site = &self.caller.site;
        let mut socket = connect(site.door(at), site.origin(at, kinds::CALLERS), at, None)?;
        self.poll.registry().register(&mut socket, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        self.lines[at].begin(socket);
        Ok(())
    }

    /// Line `at` asks, unless it has asked enough.
    fn ask(&mut self, at: usize) {
        let line = &mut self.lines[at];
        if self.caller.pace.limit_each.is_some_and(|limit| line.asked >= limit) {
            return;
        }
        let now = self.caller.clock.micros();
        if self.caller.pace.lag > 0 && self.caller.orders.lag() > self.caller.pace.lag {
            self.agenda.note(at, now + HOLD_US);
            return;
        }
        // What a busy line could not ask in time counts from when it was due; our own timer's slack does not.
        let is_late = line.every_us.is_some() && now.saturating_sub(line.due) > SLACK_US;
        if line.ask(if is_late { line.due } else { now }).is_err() {
            self.break_off(at);
        }
    }

    /// Goes on with line `at`, of which something has come or is writable.
    fn turn(&mut self, at: usize) {
        let was_connecting = self.lines[at].state == State::Connecting;
        let site = &self.caller.site;
        let line = &mut self.lines[at];
        let result = line.send().and_then(|()| line.read(&mut self.buffer, |status| site.is_good(status)));
        match result {
            Err(_) => self.break_off(at),
            Ok(Some(answered)) => self.follow(at, &answered),
            Ok(None) if was_connecting && line.state == State::Idle => self.agenda.note(at, line.due),
            Ok(None) => {}
        }
    }

    /// Notes an answer, and what line `at` does after it.
    fn follow(&mut self, at: usize, answered: &Answered) {
        let now = self.caller.clock.micros();
        let line = &mut self.lines[at];
        self.breaks_in_a_row = 0;
        if !self.caller.site.is_good(answered.status) {
            *self.calling.refused.entry(answered.status).or_default() += 1;
            self.calling.refusal.get_or_insert_with(|| format!("{} {}", answered.status, answered.refusal));
            // What was due stays due.
            self.agenda.note(at, now + PAUSE_US);
            return;
        }
        if answered.is_short {
            self.calling.broken += 1;
        } else if !line.is_aside {
            self.calling.answered += 1;
        }
        if answered.is_post {
            self.caller.orders.heads[answered.room].fetch_add(1, Ordering::Relaxed);
        }
        let window = self.caller.orders.window.load(Ordering::Relaxed);
        let times = window.checked_sub(1).filter(|_| !line.is_aside).and_then(|window| self.latencies.get_mut(window));
        if let Some(times) = times {
            times.record(now.saturating_sub(answered.due));
        }
        if let Some(every) = line.every_us {
            line.due += every;
            self.agenda.note(at, line.due);
        } else if !self.is_finishing() {
            self.ask(at);
        }
    }

    /// A connection that broke is made anew a little later.
    fn break_off(&mut self, at: usize) {
        let line = &mut self.lines[at];
        if line.is_busy() {
            self.calling.broken += 1;
        }
        line.end();
        self.breaks_in_a_row += 1;
        self.agenda.note(at, self.caller.clock.micros() + PAUSE_US);
    }
}
