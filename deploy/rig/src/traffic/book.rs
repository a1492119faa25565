//! What the clients of a run write down, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::evidence::{Answered, Departure, Evidence, Hang, Outcome, Post, Reading, Return, Session};

/// Posts, events and pages a run may write down. About 100 bytes each: what is full ends the run with a failure, long
/// before memory does.
const MAX_POSTS: usize = 1_000_000;
const MAX_HEARD: usize = 6_000_000;
const MAX_READINGS: usize = 50_000;

/// One clock and one book for all clients of a run.
pub(crate) struct Book {
    began: Instant,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    evidence: Evidence,
    heard: usize,
    /// In the order in which they were acknowledged.
    acknowledged: Vec<Uuid>,
}

impl Book {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            pages: Mutex::default(),
        }
    }

    /// Time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Writes a post down; false when the book is full.
    pub(super) fn post(&self, post: Post) -> bool {
        let mut pages = self.pages();
        if let Outcome::Acknowledged(id) = post.outcome {
            pages.acknowledged.push(id);
        }
        pages.evidence.posts.push(post);
        !pages.is_full()
    }

    pub(super) fn session(&self, session: Session) {
        let mut pages = self.pages();
        pages.heard += session.heard.len();
        pages.evidence.sessions.push(session);
    }

    pub(super) fn departure(&self, departure: Departure) {
        self.pages().evidence.departures.push(departure);
    }

    pub(super) fn came_back(&self, back: Return) {
        self.pages().evidence.returns.push(back);
    }

    pub(super) fn answered(&self, answered: Answered) {
        self.pages().evidence.answered.push(answered);
    }

    pub(super) fn reading(&self, reading: Reading) {
        let mut pages = self.pages();
        if pages.evidence.readings.len() < MAX_READINGS {
            pages.evidence.readings.push(reading);
        }
    }

    pub(super) fn hang(&self, hang: Hang) {
        self.pages().evidence.hangs.push(hang);
    }

    pub(super) fn unexpected(&self, answer: String) {
        self.pages().evidence.unexpected.push(answer);
    }

    /// The ids acknowledged since there were `known`.
    pub(crate) fn acknowledged_since(&self, known: usize) -> Vec<Uuid> {
        self.pages().acknowledged.get(known..).unwrap_or_default().to_vec()
    }

    /// How many posts were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.pages().acknowledged.len()
    }

    /// How long those posts took, all tries together, that were first sent at `from` or later and ended in a way that
    /// `counts`.
    pub(crate) fn post_times_since(&self, from: Duration, counts: impl Fn(Outcome) -> bool) -> Vec<Duration> {
        let pages = self.pages();
        let posts = pages.evidence.posts.iter().filter(|post| post.sent >= from && counts(post.outcome));
        posts.map(|post| post.settled.saturating_sub(post.sent)).collect()
    }

    /// Takes out what was written; `None` if it was too much to be complete.
    pub(super) fn close(&self) -> Option<Evidence> {
        let mut pages = self.pages();
        (!pages.is_full()).then(|| std::mem::take(&mut pages.evidence))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn is_full(&self) -> bool {
        self.evidence.posts.len() >= MAX_POSTS || self.heard >= MAX_HEARD
    }
}
