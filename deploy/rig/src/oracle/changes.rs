//! Logs with edits, deletions, reactions, replies and members that come and go: what followers got of them, and what that leaves
//! (I17, and for such rooms I3, I7 and I16).
//!
//! An entry that was shown live has the text of that time, and one that is shown later has today's, so entries are compared
//! without texts, and states with them. `applied` is the reducer of deploy/docs/log.md.

mod acknowledged;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

pub(super) use self::acknowledged::{changes_hold, posts_kept, true_refusals};
use super::members;
use super::streams::{discontinuity, missing_resets};
use super::violation::{Invariant, Violation};
use crate::evidence::{Digest, EditedRoom, EntryKind, Evidence, LogEntry, ShownMessage, StreamRecord, Target};

/// I7 and I16: a follower gets exactly the entries after its cursor, once each, to the end of the room, and nothing else.
pub(super) fn contiguous(evidence: &Evidence) -> Vec<Violation> {
    let edited = &evidence.edited;
    let mut found = Vec::new();
    for followed in &edited.streams {
        let (stream, at_gateway) = (describe(followed), followed.gateway);
        if let Some(sentence) = discontinuity(followed, &evidence.restores) {
            let sentence = format!("{stream} at gateway {at_gateway}: {sentence}");
            found.push(Violation::new(Invariant::Contiguous, sentence));
        }
        let unexpected = followed.unexpected_events.iter();
        found.extend(unexpected.map(|event| Violation::new(Invariant::NoForgery, format!("{stream} got {event}"))));
    }
    let missing = evidence.restores.iter().flat_map(|restore| missing_resets(&edited.streams, restore));
    found.extend(missing.map(|sentence| Violation::new(Invariant::Contiguous, format!("follower {sentence}"))));
    for position in &edited.final_positions {
        let head = edited.contents.get(position.room).map_or(0, EditedRoom::head);
        if position.last != head {
            let (follower, room, last) = (position.subscriber, position.room, position.last);
            let sentence =
                format!("follower {follower} stopped at seq {last} of edited room {room}, whose head is {head}");
            found.push(Violation::new(Invariant::Contiguous, sentence));
        }
    }
    found
}

/// I3, I17: the log has every seq, each entry follows from those before it, and everybody got the same entries.
pub(super) fn one_log(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (room, contents) in evidence.edited.contents.iter().enumerate() {
        let broken = (1..).zip(&contents.log).find(|(expected, entry)| entry.seq != *expected);
        if let Some((expected, entry)) = broken {
            let sentence = format!("edited room {room} has seq {} instead of {expected} in the database", entry.seq);
            found.push(Violation::new(Invariant::Dense, sentence));
        }
        for sentence in contradictions(contents) {
            found.push(Violation::new(Invariant::OneLog, format!("edited room {room}: {sentence}")));
        }
    }
    for followed in &evidence.edited.streams {
        let log = evidence.edited.contents.get(followed.room).map_or(&[][..], |contents| &contents.log);
        for received in &followed.received {
            let stored = log.binary_search_by_key(&received.entry.seq, |entry| entry.seq).ok().map(|index| &log[index]);
            if !stored.is_some_and(|stored| stored.is_same(&received.entry)) && !evidence.is_change_undone(received.at)
            {
                let (stream, entry) = (describe(followed), &received.entry);
                let sentence = format!("{stream} received {entry:?}, and the database has {stored:?}");
                found.push(Violation::new(Invariant::OneLog, sentence));
            }
        }
    }
    found
}

/// Entries of a log that cannot follow those before them, and whether what all of them leave is in the tables.
fn contradictions(contents: &EditedRoom) -> Vec<String> {
    let mut found = Vec::new();
    // The messages that are not deleted so far, and who reacts to which.
    let mut live: HashMap<i64, Uuid> = HashMap::new();
    let mut live_ids: HashSet<Uuid> = HashSet::new();
    let mut reactions: BTreeSet<(i64, String, String)> = BTreeSet::new();
    for entry in &contents.log {
        let is_live = |target: Target| live.get(&target.seq) == Some(&target.id);
        if entry.target().is_some_and(|target| !is_live(target)) {
            found.push(format!("{entry:?} is about no message before it, or a deleted one"));
        }
        match &entry.kind {
            EntryKind::Message(message) => {
                if message.reply_to.is_some_and(|replied_to| !live_ids.contains(&replied_to)) {
                    found.push(format!("{entry:?} replies to no message before it, or to a deleted one"));
                }
                live.insert(entry.seq, message.id);
                live_ids.insert(message.id);
            }
            EntryKind::Edit { .. } | EntryKind::Member { .. } | EntryKind::Created { .. } => {}
            EntryKind::Delete { target } => {
                live.remove(&target.seq);
                live_ids.remove(&target.id);
                reactions.retain(|(seq, ..)| *seq != target.seq);
            }
            EntryKind::Reaction {
                target,
                emoji,
                on,
                count,
            } => {
                let reaction = (target.seq, emoji.clone(), entry.username.clone());
                let is_new = if *on {
                    reactions.insert(reaction)
                } else {
                    reactions.remove(&reaction)
                };
                let same = reactions.iter().filter(|(seq, other, _)| (seq, other) == (&target.seq, emoji)).count();
                if !is_new || usize::try_from(*count) != Ok(same) {
                    found.push(format!("{entry:?} changes nothing, or its count is not {same}"));
                }
            }
        }
    }
    if reactions != contents.reactions {
        let differences = reactions.symmetric_difference(&contents.reactions).collect::<Vec<_>>();
        found.push(format!("the table of reactions differs from the log: {differences:?}"));
    }
    found
}

/// I17: what each follower holds at the end, applied in order, is the history over HTTP and the table of members, and that is what
/// SQL has.
pub(super) fn applied(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |sentence| found.push(Violation::new(Invariant::Applied, sentence));
    for (room, contents) in evidence.edited.contents.iter().enumerate() {
        let rows: Vec<&LogEntry> = contents.log.iter().filter(|entry| entry.message().is_some()).collect();
        if let Some(difference) = difference(contents.history.iter(), rows.iter().copied()) {
            report(format!("history of edited room {room} is not what SQL has: {difference}"));
        }
        for entry in &rows {
            let stored = contents.reactions.iter().filter(|(seq, ..)| *seq == entry.seq);
            let mut counts: BTreeMap<String, i64> = BTreeMap::new();
            for (_, emoji, _) in stored {
                *counts.entry(emoji.clone()).or_default() += 1;
            }
            if entry.message().is_some_and(|message| message.reactions != counts) {
                report(format!("{entry:?} of edited room {room} has other counts than the table: {counts:?}"));
            }
        }
    }
    for (follower, room, held) in held(evidence) {
        let Some(contents) = evidence.edited.contents.get(room) else {
            continue;
        };
        let members = members::apply(held.values().copied());
        if members != contents.members {
            let differing: Vec<&String> = members.symmetric_difference(&contents.members).collect();
            report(format!(
                "the members that follower {follower} of edited room {room} knows differ from the table: {differing:?}"
            ));
        }
        let shown = apply(held.into_values());
        if let Some(difference) = difference(shown.values(), contents.history.iter()) {
            report(format!("what follower {follower} of edited room {room} shows is not history: {difference}"));
        }
    }
    found
}

/// What each follower holds at the end, by seq, with its room: a stream replaces what it had after the position at which that
/// stream began.
fn held(evidence: &Evidence) -> Vec<(usize, usize, BTreeMap<i64, &LogEntry>)> {
    let mut followers: BTreeMap<(usize, usize), BTreeMap<i64, &LogEntry>> = BTreeMap::new();
    for stream in &evidence.edited.streams {
        let held = followers.entry((stream.subscriber, stream.room)).or_default();
        let kept = if stream.reset.is_some() { 0 } else { stream.ready };
        held.retain(|seq, _| *seq <= kept);
        held.extend(stream.received.iter().map(|received| (received.entry.seq, &received.entry)));
    }
    followers.into_iter().map(|((follower, room), held)| (follower, room, held)).collect()
}

/// The messages that a client shows which applies `entries`, by seq.
fn apply<'a>(entries: impl IntoIterator<Item = &'a LogEntry>) -> BTreeMap<i64, LogEntry> {
    let mut shown: BTreeMap<i64, LogEntry> = BTreeMap::new();
    for entry in entries {
        if entry.message().is_some() {
            shown.insert(entry.seq, entry.clone());
        }
        let Some(target) = entry.target() else {
            continue;
        };
        let Some(EntryKind::Message(message)) = shown.get_mut(&target.seq).map(|entry| &mut entry.kind) else {
            continue;
        };
        match &entry.kind {
            EntryKind::Edit { text, edited_on, .. } if !message.deleted => {
                (message.text, message.edited_on) = (*text, Some(*edited_on));
            }
            EntryKind::Delete { .. } => {
                *message = ShownMessage {
                    id: message.id,
                    text: Digest::of(""),
                    edited_on: None,
                    deleted: true,
                    reactions: BTreeMap::new(),
                    reply_to: message.reply_to,
                    mentions: Vec::new(),
                };
            }
            EntryKind::Reaction { emoji, count, .. } if !message.deleted => {
                message.reactions.insert(emoji.clone(), *count);
                message.reactions.retain(|_, count| *count > 0);
            }
            EntryKind::Message(_)
            | EntryKind::Edit { .. }
            | EntryKind::Reaction { .. }
            | EntryKind::Member { .. }
            | EntryKind::Created { .. } => {}
        }
    }
    shown
}

/// Where two lists of messages first differ, as a sentence.
fn difference<'a>(
    one: impl Iterator<Item = &'a LogEntry>,
    other: impl Iterator<Item = &'a LogEntry>,
) -> Option<String> {
    let (mut one, mut other) = (one.fuse(), other.fuse());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => return Some(format!("{one:?} instead of {other:?}")),
        }
    }
}

/// How the sentence of a violation refers to a stream.
fn describe(followed: &StreamRecord<LogEntry>) -> String {
    format!("follower {} of edited room {}", followed.subscriber, followed.room)
}
