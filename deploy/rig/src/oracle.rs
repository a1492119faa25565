//! Compares what clients were promised with what happened: from evidence to violations, and nothing else.
//!
//! One function for each invariant, pure, so that its own tests can break each promise on paper and see it found.

mod accepted;
mod answers;
mod order;
mod state;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::evidence::{Digest, Evidence, Post, Shown};

/// What must hold. The numbers are for the table; the sentences say what each one means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: every message answered with 204 is in history.
    Kept,
    /// I2: each message is there once.
    Once,
    /// I3: the seqs of a room are 1..N without a hole.
    Dense,
    /// I4: what was acknowledged before another was sent stands before it.
    HappensBefore,
    /// I5: the serial posts of one sender keep their order.
    SenderOrder,
    /// I6: history never changes behind a reader.
    Unchanging,
    /// I7: a stream shows exactly what follows its cursor. Only a restored database is a reason for `reset`, and must be told.
    Contiguous,
    /// I8: nothing is seen live that history lacks.
    NoGhosts,
    /// I9: an unknown outcome is there once or not at all, and a refused message is not there.
    Converges,
    /// I10: the accept log keeps what is not stored yet.
    LogKeeps,
    /// I11: cursors and fences only grow.
    OnlyForward,
    /// I12: one owner for each fence, and nobody else commits.
    OneOwner,
    /// I13: memory is bounded.
    MemoryBounded,
    /// I14: history and dead letters are what was accepted, and nothing else.
    Balanced,
    /// I15: nobody hears a room after leaving it.
    LeftIsLeft,
    /// I15: a stream ends for the reason it names.
    TrueReasons,
    /// What an answer says was so: what is done, what is there and what is not.
    TrueAnswers,
    /// I16: no text can forge a line of a stream.
    NoForgery,
    /// What the fault itself demands, such as a time.
    Demand,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// What happened, for a person.
    pub sentence: String,
}

impl Violation {
    /// A violation of `invariant` that is explained by `sentence`.
    pub fn new(invariant: Invariant, sentence: impl Into<String>) -> Self {
        Self {
            invariant,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.sentence)
    }
}

/// What "bounded" and "at once" mean in a run.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest time between leaving a room and the end of its stream.
    pub removal: Duration,
    /// Largest resident memory of a service, and largest used memory of Redis, in KiB.
    pub memory_kib: u64,
    /// Longest try of a post until an answer or an error.
    pub post: Duration,
}

/// All violations in `evidence`; empty if every promise was kept.
#[must_use]
pub fn judge(evidence: &Evidence, bounds: &Bounds) -> Vec<Violation> {
    let index = Index::of(evidence);
    let checks = [
        accepted::kept(evidence, &index),
        accepted::once(evidence),
        accepted::converges(evidence, &index),
        accepted::balanced(evidence, &index),
        order::dense(evidence),
        order::happens_before(evidence, &index),
        order::sender_order(evidence, &index),
        streams::contiguous(evidence),
        streams::no_ghosts(evidence),
        streams::unchanging(evidence),
        streams::no_forgery(evidence),
        streams::left_is_left(evidence, bounds),
        answers::true_answers(evidence),
        answers::back_is_back(evidence),
        answers::true_reasons(evidence),
        state::log_keeps(evidence),
        state::only_forward(evidence),
        state::one_owner(evidence),
        state::memory_bounded(evidence, bounds),
        state::posts_in_time(evidence, bounds),
        state::expected_answers(evidence),
    ];
    checks.into_iter().flatten().collect()
}

/// Finds things in the evidence fast.
struct Index<'a> {
    posts: HashMap<Digest, &'a Post>,
    /// Where a text stands in history: room and messages.
    places: HashMap<Digest, Vec<(usize, Shown)>>,
}

impl<'a> Index<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let posts = evidence.posts.iter().map(|post| (post.text, post)).collect();
        let mut places: HashMap<Digest, Vec<(usize, Shown)>> = HashMap::new();
        for (room, history) in evidence.history.iter().enumerate() {
            for shown in history {
                places.entry(shown.text).or_default().push((room, *shown));
            }
        }
        Self { posts, places }
    }

    fn places_of(&self, post: &Post) -> &[(usize, Shown)] {
        self.places.get(&post.text).map_or(&[], Vec::as_slice)
    }

    /// The seq of a post in its room, if it is there.
    fn seq_of(&self, post: &Post) -> Option<i64> {
        self.places_of(post).iter().find(|(room, _)| *room == post.room).map(|(_, shown)| shown.seq)
    }
}

/// What a violation calls a post.
fn name(post: &Post) -> String {
    format!("message {} of sender {} in room {}", post.number, post.sender, post.room)
}
