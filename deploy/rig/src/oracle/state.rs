//! The state of the database, Redis and the processes while the run went on (I10–I13).

use std::collections::HashMap;
use std::time::Duration;

use super::violation::{Bounds, Invariant, Violation};
use crate::evidence::{Evidence, Position};

/// I10.
pub(super) fn log_keeps(evidence: &Evidence) -> Vec<Violation> {
    let sentence = |id| format!("{id} was acknowledged, and neither stored nor in the accept log");
    evidence
        .missing_during_run
        .iter()
        .filter(|id| !evidence.is_lost(**id, Duration::ZERO))
        .map(|id| Violation::new(Invariant::LogKeeps, sentence(id)))
        .collect()
}

/// I11.
pub(super) fn only_forward(evidence: &Evidence) -> Vec<Violation> {
    pairs(evidence)
        .filter(|(earlier, later)| later.cursor < earlier.cursor || later.fence < earlier.fence)
        .map(|(earlier, later)| {
            Violation::new(Invariant::OnlyForward, format!("a position went back from {earlier:?} to {later:?}"))
        })
        .collect()
}

/// I12. The table itself shows two owners for one fence; a trigger records a commit by a session that is not the owner's.
pub(super) fn one_owner(evidence: &Evidence) -> Vec<Violation> {
    let mut owners: HashMap<(i64, i64), &Position> = HashMap::new();
    let foreign =
        |commit| Violation::new(Invariant::OneOwner, format!("committed by another than the owner: {commit}"));
    let mut found: Vec<Violation> = evidence.foreign_commits.iter().map(foreign).collect();
    for position in &evidence.positions {
        let first = owners.entry((position.partition, position.fence)).or_insert(position);
        if first.owner != position.owner {
            let sentence = format!("one fence has two owners: {first:?} and {position:?}");
            found.push(Violation::new(Invariant::OneOwner, sentence));
        }
    }
    found
}

/// I13.
pub(super) fn memory_bounded(evidence: &Evidence, bounds: &Bounds) -> Vec<Violation> {
    let over = evidence.memory.iter().filter(|sample| sample.kib > bounds.memory_kib);
    over.map(|sample| {
        let sentence = format!("{} grew to {} KiB, over {} KiB", sample.process, sample.kib, bounds.memory_kib);
        Violation::new(Invariant::MemoryBounded, sentence)
    })
    .collect()
}

/// A post never hangs, unless its gateway was unreachable.
pub(super) fn posts_in_time(evidence: &Evidence, bounds: &Bounds) -> Vec<Violation> {
    let mut found = Vec::new();
    for post in evidence.slow_posts.iter().filter(|post| post.until.saturating_sub(post.from) > bounds.post) {
        if !evidence.was_unreachable(post.gateway, post.from, post.until) {
            found.push(Violation::new(Invariant::Demand, format!("a try of a post took too long: {post:?}")));
        }
    }
    found
}

/// Nobody gets a response that is not in the contract.
pub(super) fn expected_responses(evidence: &Evidence) -> Vec<Violation> {
    evidence
        .unexpected_responses
        .iter()
        .map(|response| Violation::new(Invariant::Demand, response))
        .collect()
}

/// Each position with the next one of its partition.
fn pairs(evidence: &Evidence) -> impl Iterator<Item = (&Position, &Position)> {
    let mut last: HashMap<i64, &Position> = HashMap::new();
    let pairs: Vec<_> = evidence
        .positions
        .iter()
        .filter_map(|position| Some((last.insert(position.partition, position)?, position)))
        .collect();
    pairs.into_iter()
}
