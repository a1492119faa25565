//! Accepted messages: lost, doubled, at the wrong position, unbalanced.

use std::collections::BTreeSet;

use super::fixture::{BOUNDS, broken, healthy, id, message, rewrite, swap, text};
use crate::evidence::{Message, PostOutcome};
use crate::oracle::judge;
use crate::oracle::violation::Invariant;

#[test]
fn healthy_run_has_no_violations() {
    assert_eq!(judge(&healthy(), &BOUNDS), []);
    // A message of unknown outcome may be missing.
    let without = broken(|evidence| {
        rewrite(evidence, |history| {
            let _ = history.pop();
        });
        evidence.streams[1].received.pop();
        evidence.final_positions[0].last = 4;
    });
    assert_eq!(without, BTreeSet::new());
}

#[test]
fn lost_message_is_found() {
    let found = broken(|evidence| {
        rewrite(evidence, |history| {
            history.remove(1);
        });
    });
    assert!(found.is_superset(&[Invariant::Kept, Invariant::Dense].into()), "{found:?}");
    let other_id = broken(|evidence| rewrite(evidence, |history| history[1].id = id(99)));
    assert!(other_id.contains(&Invariant::Kept), "{other_id:?}");
}

#[test]
fn doubled_message_is_found() {
    let again = broken(|evidence| rewrite(evidence, |history| history.push(Message { seq: 6, ..message(2) })));
    assert!(again.is_superset(&[Invariant::Once, Invariant::Converges].into()), "{again:?}");
    let with_another_id = broken(|evidence| {
        let double = Message {
            seq: 6,
            id: id(99),
            text: text(5),
        };
        rewrite(evidence, |history| history.push(double));
    });
    assert!(with_another_id.contains(&Invariant::Converges), "{with_another_id:?}");
}

#[test]
fn hole_in_the_seqs_is_found() {
    let found = broken(|evidence| rewrite(evidence, |history| history[4].seq = 7));
    assert!(found.contains(&Invariant::Dense), "{found:?}");
}

#[test]
fn wrong_order_is_found_by_clock_and_by_number() {
    let found = broken(|evidence| rewrite(evidence, |history| swap(history, 1, 2)));
    assert!(found.is_superset(&[Invariant::HappensBefore, Invariant::SenderOrder].into()), "{found:?}");
    // With two senders only the clock shows it.
    let of_two = broken(|evidence| {
        evidence.posts[2].sender = 1;
        rewrite(evidence, |history| swap(history, 1, 2));
    });
    assert!(
        of_two.contains(&Invariant::HappensBefore) && !of_two.contains(&Invariant::SenderOrder),
        "{of_two:?}"
    );
    // The order of messages that two senders post at the same time is free.
    let at_once = broken(|evidence| {
        evidence.posts[2].sender = 1;
        evidence.posts[2].sent = evidence.posts[1].sent;
        evidence.streams.clear();
        evidence.history_pages.clear();
        rewrite(evidence, |history| swap(history, 1, 2));
    });
    assert_eq!(at_once, BTreeSet::new());
}

#[test]
fn refused_message_in_history_is_found() {
    assert_eq!(broken(|evidence| evidence.posts[4].outcome = PostOutcome::Refused), [Invariant::Converges].into());
}

#[test]
fn unbalanced_messages_are_found() {
    let only = [Invariant::Balanced].into();
    assert_eq!(broken(|evidence| evidence.dead_letters = 1), only);
    assert_eq!(broken(|evidence| evidence.left_in_log = 1), only);
    assert_eq!(
        broken(|evidence| {
            let _ = evidence.rows[0].pop();
        }),
        only
    );
    assert_eq!(
        broken(|evidence| {
            evidence.posts.remove(4);
        }),
        only
    );
}
