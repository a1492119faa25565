//! The one order of a room (I3, I4, I5).

use std::collections::HashMap;
use std::time::Duration;

use super::index::{Index, describe};
use super::violation::{Invariant, Violation};
use crate::evidence::{Evidence, Post};

/// I3, in history and in the database, each with the entries that are no messages.
pub(super) fn dense(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (source, rooms) in [("history", &evidence.history), ("the database", &evidence.rows)] {
        for (room, messages) in rooms.iter().enumerate() {
            if messages.windows(2).any(|pair| pair[0].seq >= pair[1].seq) {
                let sentence = format!("the messages of room {room} are not in the order of their seqs in {source}");
                found.push(Violation::new(Invariant::Dense, sentence));
            }
            let others = evidence.others.get(room).into_iter().flatten();
            let seqs = messages.iter().map(|message| message.seq).chain(others.map(|entry| entry.seq));
            let mut seqs: Vec<i64> = seqs.collect();
            seqs.sort_unstable();
            let broken = (1..).zip(seqs).find(|(expected, seq)| seq != expected);
            if let Some((expected, seq)) = broken {
                let sentence = format!("the log of room {room} has seq {seq} instead of {expected}, with {source}");
                found.push(Violation::new(Invariant::Dense, sentence));
            }
        }
    }
    found
}

/// I4: going from the last message to the first, none may have been sent after the acknowledgement of one behind it.
pub(super) fn happens_before(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for history in &evidence.history {
        // The one with the earliest acknowledgement among the messages behind.
        let mut earliest: Option<(Duration, &Post)> = None;
        for message in history.iter().rev() {
            let Some(post) = index.posts.get(&message.text).copied() else {
                continue;
            };
            if let Some((settled, before)) = earliest
                && settled < post.sent
            {
                let sentence = format!(
                    "{} was acknowledged at {settled:?} and is behind {}, sent at {:?}",
                    describe(before),
                    describe(post),
                    post.sent
                );
                found.push(Violation::new(Invariant::HappensBefore, sentence));
            }
            if post.outcome.is_acknowledged() && earliest.is_none_or(|(settled, _)| post.settled < settled) {
                earliest = Some((post.settled, post));
            }
        }
    }
    found
}

/// I5: by the senders' own numbers, without any clock.
pub(super) fn sender_order(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut by_sender: HashMap<(usize, usize), Vec<&Post>> = HashMap::new();
    for post in evidence.posts.iter().filter(|post| post.outcome.is_acknowledged()) {
        by_sender.entry((post.room, post.sender)).or_default().push(post);
    }
    let mut found = Vec::new();
    for mut posts in by_sender.into_values() {
        posts.sort_unstable_by_key(|post| post.number);
        let stored: Vec<_> = posts.iter().filter_map(|post| Some((index.seq_of(post)?, post))).collect();
        for pair in stored.windows(2) {
            let [(seq, earlier), (next, later)] = pair else {
                continue;
            };
            if next <= seq {
                let sentence =
                    format!("{} has seq {seq} and the later {} has {next}", describe(earlier), describe(later));
                found.push(Violation::new(Invariant::SenderOrder, sentence));
            }
        }
    }
    found
}
