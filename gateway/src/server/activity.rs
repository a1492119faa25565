//! What a connection is doing, from which follows until when it may go on doing it.
//!
//! hyper's `header_read_timeout` is not used: its clock starts when hyper begins to wait for a head, so it closes idle
//! keep-alive connections too, at the deadline meant for half-sent heads (hyper 1.12, `poll_read_head` and
//! `State::idle`), and HTTP/2 has none at all. Here the socket reports bytes and the exchanges report requests.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::ServerLimits;
use super::budget::ConnectionBudget;
use super::client_budget::OverBudget;
use super::hijack::{HijackHandler, HijackProgress};

/// How long a client may take, at the stop of the server, for a request it is about to send: it connected before the stop and
/// cannot know of it.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// The state of one connection, shared by its socket, its requests and the loop that drives it.
///
/// The lock is held for a few instructions and never together with another one. Only an HTTP/2 connection, whose
/// requests are tasks of their own, ever contends for it.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    budget: Arc<ConnectionBudget>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// When `phase` began.
    since: Instant,
    /// Requests handed to the endpoint whose response is not finished.
    running: u32,
    /// Whether bytes of a response may still wait in hyper's buffer.
    unsent: bool,
    /// Bytes of the head that has come in part.
    head: usize,
    /// Until when the answer must be sent, if its length is known.
    send_by: Option<Instant>,
    hijack: HijackProgress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A part of a request head has come.
    Head,
    /// At least one request is being answered.
    Running,
    /// Between requests.
    Idle,
}

impl Activity {
    /// A new connection, whose first byte has just come.
    pub(super) fn new(budget: Arc<ConnectionBudget>) -> Arc<Self> {
        let state = State {
            phase: Phase::Head,
            since: Instant::now(),
            running: 0,
            unsent: false,
            head: 0,
            send_by: None,
            hijack: HijackProgress::None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            budget,
        })
    }

    /// The connection speaks HTTP/2, where bytes between requests are no sign of a half-sent head.
    pub(super) fn multiplexed(&self) {
        self.state().enter(Phase::Idle);
    }

    /// `count` bytes came in (HTTP/1.1 only): between requests they begin the next head, and are taken in hand as such until
    /// it is complete. An error if there is no room for them.
    pub(super) fn received(&self, count: usize) -> Result<(), OverBudget> {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            state.enter(Phase::Head);
        }
        if state.phase == Phase::Head {
            self.budget.add(count)?;
            state.head += count;
        }
        Ok(())
    }

    /// Counts `bytes` that were read, of either version; returns how long to wait before more is read.
    pub(super) fn pace(&self, bytes: usize) -> Duration {
        self.budget.pace(bytes)
    }

    /// Whether that is still so.
    pub(super) fn is_paced(&self) -> bool {
        self.budget.is_paced()
    }

    /// hyper has written out everything it had.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.running == 0 {
            state.unsent = false;
        }
        state.hijack.flushed();
    }

    /// Notes who wants the socket when the beginning of the response is sent.
    pub(super) fn promise_to(&self, handler: HijackHandler) {
        self.state().hijack = HijackProgress::Promised(handler);
    }

    /// Notes that hyper has all of that beginning.
    pub(super) fn begun(&self) {
        self.state().hijack.begun();
    }

    /// Who takes the socket over now, if anybody does.
    pub(super) fn handler(&self) -> Option<HijackHandler> {
        self.state().hijack.handler()
    }

    /// Whether no request is being answered and nothing of an earlier response is left to send.
    ///
    /// What hyper writes then over HTTP/1.1 is its own answer to a head it cannot parse.
    pub(super) fn owes_nothing(&self) -> bool {
        let state = self.state();
        state.running == 0 && !state.unsent
    }

    /// Until when the present phase may last; `None` while a request is worked on, or answered by a stream. At the stop of the
    /// server, which began at `stopping`, a client that is about to ask has [`LAST_REQUEST`] for it.
    pub(super) fn deadline(&self, limits: &ServerLimits, stopping: Option<Instant>) -> Option<Instant> {
        let state = self.state();
        let bound: Duration = match state.phase {
            Phase::Running => return state.send_by,
            Phase::Head => limits.header_deadline,
            Phase::Idle => limits.idle_deadline,
        };
        let deadline = state.since + bound;
        Some(stopping.map_or(deadline, |began| deadline.min(began + LAST_REQUEST)))
    }

    /// Whether the client has connected or begun a head, and no request is there yet.
    pub(super) fn is_about_to_ask(&self) -> bool {
        self.state().phase == Phase::Head
    }

    /// Whether an answer is being sent that the client takes too slowly.
    pub(super) fn is_sending(&self) -> bool {
        self.state().send_by.is_some()
    }

    /// A poisoned lock is taken all the same: the state is whole after every statement, and a panicking endpoint must
    /// still be counted out.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.remove(std::mem::take(&mut state.head));
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }
}

/// One request, from the end of its head until its response is handed over or dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl ActiveRequest {
    pub(super) fn start(activity: &Arc<Activity>) -> Self {
        let mut state = activity.state();
        state.running += 1;
        state.unsent = true;
        state.enter(Phase::Running);
        // From here on the request itself is what is in hand.
        activity.budget.remove(std::mem::take(&mut state.head));
        drop(state);
        Self(Arc::clone(activity))
    }

    /// Notes until when the answer must be sent.
    pub(super) fn send_by(&self, by: Instant) {
        self.0.state().send_by = Some(by);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        state.send_by = None;
        if state.running == 0 {
            state.enter(Phase::Idle);
        }
    }
}
