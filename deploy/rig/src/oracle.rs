//! Compares what clients were promised with what happened: it turns evidence into violations, and does nothing else.
//!
//! Each invariant has one pure function, so that the oracle's own tests can break each promise on paper and see it found.

mod accepted;
mod changes;
mod deletions;
mod index;
mod members;
mod order;
mod responses;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod user_streams;
mod violation;

use self::index::Index;
pub use self::violation::{Bounds, Invariant, Violation};
use crate::evidence::Evidence;

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
        streams::received_is_stored(evidence),
        streams::unchanging(evidence),
        streams::no_forgery(evidence),
        streams::leaving_takes_effect(evidence, bounds),
        changes::contiguous(evidence),
        changes::one_log(evidence),
        changes::applied(evidence),
        changes::posts_kept(evidence),
        changes::changes_hold(evidence),
        changes::true_refusals(evidence),
        deletions::deleted_is_gone(evidence),
        user_streams::contiguous(evidence),
        user_streams::received_is_stored(evidence),
        user_streams::within_membership(evidence, bounds),
        user_streams::no_forgery(evidence),
        members::in_the_log(evidence),
        members::as_called(evidence),
        responses::true_responses(evidence),
        responses::rejoined_is_member(evidence),
        responses::true_reasons(evidence),
        state::log_keeps(evidence),
        state::only_forward(evidence),
        state::one_owner(evidence),
        state::memory_bounded(evidence, bounds),
        state::posts_in_time(evidence, bounds),
        state::expected_responses(evidence),
    ];
    checks.into_iter().flatten().collect()
}
