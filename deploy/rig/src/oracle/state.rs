//! What the database, Redis and the processes were seen to be in while the run went on (I10–I13).

use std::collections::HashMap;
use std::time::Duration;

use super::{Bounds, Invariant, Violation};
use crate::evidence::{Evidence, Position};

/// I10.
pub(super) fn log_keeps(evidence: &Evidence) -> Vec<Violation> {
    let sentence = |id| format!("{id} was acknowledged, and neither stored nor in the accept log");
    evidence
        .missing_between
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

/// I12. Of two owners for one fence, the table itself tells; of a commit by somebody who is not the owner, a trigger does.
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

/// A post never hangs, unless nobody could have answered it.
pub(super) fn posts_in_time(evidence: &Evidence, bounds: &Bounds) -> Vec<Violation> {
    let mut found = Vec::new();
    for hang in evidence.hangs.iter().filter(|hang| hang.until.saturating_sub(hang.from) > bounds.post) {
        if !evidence.was_dark(hang.gateway, hang.from, hang.until) {
            found.push(Violation::new(Invariant::Demand, format!("a try of a post took too long: {hang:?}")));
        }
    }
    found
}

/// Nobody gets an answer that is not in the contract.
pub(super) fn expected_answers(evidence: &Evidence) -> Vec<Violation> {
    evidence.unexpected.iter().map(|answer| Violation::new(Invariant::Demand, answer)).collect()
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
