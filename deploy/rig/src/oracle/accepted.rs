//! What was accepted is there, once, and nothing else is (I1, I2, I9, I14).

use std::collections::HashMap;

use uuid::Uuid;

use super::index::{Index, describe};
use super::violation::{Invariant, Violation};
use crate::evidence::{Evidence, PostOutcome};

/// I1.
pub(super) fn kept(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for post in &evidence.posts {
        let PostOutcome::Acknowledged(id) = post.outcome else {
            continue;
        };
        let messages = index.messages_of(post);
        let is_there = messages.iter().any(|(room, message)| *room == post.room && message.id == id);
        if is_there || evidence.is_lost(id, post.settled) {
            continue;
        }
        let (settled, what) = (post.settled, describe(post));
        let sentence = match messages.first() {
            None => format!("lost: {what} was acknowledged as {id} at {settled:?} and is not in history"),
            Some((room, message)) => format!("{what} was acknowledged as {id} and is {} of room {room}", message.id),
        };
        found.push(Violation::new(Invariant::Kept, sentence));
    }
    found
}

/// I2, over HTTP and in the database.
pub(super) fn once(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (source, rooms) in [("history", &evidence.history), ("the database", &evidence.rows)] {
        let mut seen: HashMap<Uuid, (usize, i64)> = HashMap::new();
        for (room, messages) in rooms.iter().enumerate() {
            for message in messages {
                if let Some((other, seq)) = seen.insert(message.id, (room, message.seq)) {
                    let sentence =
                        format!("{} is in {source} at {other}/{seq} and again at {room}/{}", message.id, message.seq);
                    found.push(Violation::new(Invariant::Once, sentence));
                }
            }
        }
    }
    found
}

/// I9.
pub(super) fn converges(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for post in &evidence.posts {
        let times = index.messages_of(post).len();
        let sentence = match post.outcome {
            _ if times > 1 => format!("doubled: {} is in history {times} times", describe(post)),
            PostOutcome::Refused if times > 0 => format!("{} was refused and is in history", describe(post)),
            PostOutcome::Acknowledged(_) | PostOutcome::Refused | PostOutcome::NoSuchReply | PostOutcome::Unknown => {
                continue;
            }
        };
        found.push(Violation::new(Invariant::Converges, sentence));
    }
    found
}

/// I14.
pub(super) fn balanced(evidence: &Evidence, index: &Index<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |sentence| found.push(Violation::new(Invariant::Balanced, sentence));
    for (room, history) in evidence.history.iter().enumerate() {
        for message in history.iter().filter(|message| !index.posts.contains_key(&message.text)) {
            report(format!("nobody posted what is at seq {} of room {room} ({})", message.seq, message.id));
        }
    }
    for (room, (history, rows)) in evidence.history.iter().zip(&evidence.rows).enumerate() {
        if history != rows {
            report(format!(
                "history of room {room} has {} messages, the database {}, or they differ",
                history.len(),
                rows.len()
            ));
        }
    }
    if evidence.dead_letters != evidence.poison {
        let (dead, poison) = (evidence.dead_letters, evidence.poison);
        report(format!("{dead} entries were set aside where {poison} were poison"));
    }
    if evidence.left_in_log > 0 {
        report(format!("{} entries are left in the accept log when all is stored", evidence.left_in_log));
    }
    found
}
