//! What editors were told: their posts, edits, deletions and reactions are in the log, once each, and hold (I1, I2, I9, I17).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use crate::evidence::{
    ChangeOutcome, ChangeRequest, Digest, EditedRoom, EntryKind, Evidence, LogEntry, Post, PostOutcome,
    RequestedChange, ShownMessage,
};
use crate::oracle::violation::{Invariant, Violation};

/// I1, I2, I9: what editors posted is there, once, and nothing else is.
pub(in crate::oracle) fn posts_kept(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |invariant, sentence| found.push(Violation::new(invariant, sentence));
    for (room, contents) in evidence.edited.contents.iter().enumerate() {
        let mut posts: Vec<&Post> = evidence.edited.posts.iter().filter(|post| post.room == room).collect();
        posts.sort_by_key(|post| !post.outcome.is_acknowledged());
        let messages: Vec<&ShownMessage> = contents.log.iter().filter_map(LogEntry::message).collect();
        let mut explained: HashSet<Uuid> = HashSet::new();
        for post in posts {
            let what = format!("message {} of editor {} in edited room {room}", post.number, post.sender);
            let of_post: Vec<Uuid> = match post.outcome {
                PostOutcome::Acknowledged(id) => {
                    messages.iter().filter(|message| message.id == id).map(|_| id).collect()
                }
                // Nobody knows its id, so nobody has changed it.
                PostOutcome::Refused | PostOutcome::NoSuchReply | PostOutcome::Unknown => {
                    messages.iter().filter(|message| message.text == post.text).map(|message| message.id).collect()
                }
            };
            explained.extend(&of_post);
            match (post.outcome, of_post.len()) {
                (PostOutcome::Acknowledged(id), 0) if !is_lost(evidence, contents, post, id) => {
                    report(Invariant::Kept, format!("lost: {what} was acknowledged as {id} and is not in the log"));
                }
                (PostOutcome::NoSuchReply, 1) if post.unknown_tries > 0 => {}
                (PostOutcome::Refused | PostOutcome::NoSuchReply, 1) => {
                    report(Invariant::Converges, format!("{what} was refused and is in the log"));
                }
                (_, 0 | 1) => {}
                (_, times) => report(Invariant::Once, format!("doubled: {what} is in the log {times} times")),
            }
        }
        for message in messages.iter().filter(|message| !explained.contains(&message.id)) {
            report(Invariant::Balanced, format!("nobody posted {message:?} in edited room {room}"));
        }
    }
    found
}

/// I9, I17: each acknowledged change is one entry, and the last one of each thing holds.
pub(in crate::oracle) fn changes_hold(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |sentence| found.push(Violation::new(Invariant::ChangesHold, sentence));
    for (room, contents) in evidence.edited.contents.iter().enumerate() {
        let mut changes: HashMap<Uuid, Vec<&RequestedChange>> = HashMap::new();
        for change in evidence.edited.changes.iter().filter(|change| change.room == room) {
            changes.entry(change.target).or_default().push(change);
        }
        let posts = evidence.edited.posts.iter();
        let posted: HashMap<Uuid, &Post> = posts.filter_map(|post| Some((post.outcome.id()?, post))).collect();
        for sentence in miscounted(evidence, contents, changes.values().flatten().copied()) {
            report(format!("edited room {room}: {sentence}"));
        }
        for entry in &contents.log {
            let Some(message) = entry.message() else {
                continue;
            };
            // Of a post without an acknowledgement nobody knows the id: it was not changed, and is judged as a post.
            let Some(post) = posted.get(&message.id) else {
                continue;
            };
            if let Some(sentence) = other_links(post, message) {
                report(format!("seq {} of edited room {room} ({}) {sentence}", entry.seq, message.id));
            }
            let reactions = contents.reactions.iter().filter(|(seq, ..)| *seq == entry.seq);
            let reactions: BTreeSet<(&str, &str)> =
                reactions.map(|(_, emoji, user)| (emoji.as_str(), user.as_str())).collect();
            let of_message = changes.get(&message.id).map_or(&[][..], Vec::as_slice);
            let expected = Expected::after(evidence, post.text, of_message);
            if let Some(sentence) = expected.contradiction(post.text, message, &reactions) {
                report(format!("seq {} of edited room {room} ({}) {sentence}", entry.seq, message.id));
            }
        }
    }
    found
}

/// Whether an acknowledged post may be gone because of a restore. A reply is decided again then, and refused if its target is lost.
fn is_lost(evidence: &Evidence, contents: &EditedRoom, post: &Post, id: Uuid) -> bool {
    let is_there = |id: Uuid| contents.log.iter().filter_map(LogEntry::message).any(|message| message.id == id);
    evidence.is_lost(id, post.settled)
        || (evidence.is_undone(id, post.settled) && post.reply_to.is_some_and(|target| !is_there(target)))
}

/// How the links of a message differ from what was posted, if they do. A deleted message mentions nobody.
fn other_links(post: &Post, message: &ShownMessage) -> Option<String> {
    let mentions = if message.deleted { &[][..] } else { &post.mentions };
    let is_same = (post.reply_to, mentions) == (message.reply_to, &message.mentions);
    (!is_same).then(|| {
        let (replied_to, mentioned) = (post.reply_to, &post.mentions);
        format!("was posted as a reply to {replied_to:?} that mentions {mentioned:?}, and is {message:?}")
    })
}

/// What may be true of a message at the end. Each set has one element, unless an outcome is unknown, or undone by a restore.
struct Expected<'a> {
    texts: BTreeSet<Digest>,
    deleted: BTreeSet<bool>,
    /// By emoji and user.
    reactions: BTreeMap<(&'a str, &'a str), BTreeSet<bool>>,
}

impl<'a> Expected<'a> {
    /// After `changes` of a message that was posted with `text`.
    fn after(evidence: &Evidence, text: Digest, changes: &[&'a RequestedChange]) -> Self {
        let mut expected = Self {
            texts: [text].into(),
            deleted: [false].into(),
            reactions: BTreeMap::new(),
        };
        for change in changes {
            let Some(is_certain) = made(evidence, change) else {
                continue;
            };
            match &change.request {
                ChangeRequest::Edit(text) => change_to(&mut expected.texts, *text, is_certain),
                ChangeRequest::Delete => change_to(&mut expected.deleted, true, is_certain),
                ChangeRequest::React { emoji, on } => {
                    let key = (emoji.as_str(), change.username.as_str());
                    change_to(expected.reactions.entry(key).or_insert([false].into()), *on, is_certain);
                }
            }
        }
        expected
    }

    /// How `message`, posted with `text` and with these reactions, contradicts it.
    fn contradiction(
        &self,
        text: Digest,
        message: &ShownMessage,
        reactions: &BTreeSet<(&str, &str)>,
    ) -> Option<String> {
        if !self.deleted.contains(&message.deleted) {
            let is = if message.deleted {
                "is deleted"
            } else {
                "is not deleted"
            };
            return Some(format!("{is}, against what was acknowledged"));
        }
        if message.deleted {
            let is_empty = message.text == Digest::of("") && message.edited_on.is_none() && reactions.is_empty();
            return (!is_empty).then(|| format!("is deleted, and something is left of it: {message:?}, {reactions:?}"));
        }
        if !self.texts.contains(&message.text) {
            return Some("has another text than was acknowledged last".to_owned());
        }
        if message.edited_on.is_some() != (message.text != text) {
            return Some(format!("does not say truly whether it was edited: {:?}", message.edited_on));
        }
        let is_wrong = |(key, allowed): &(&(&str, &str), &BTreeSet<bool>)| !allowed.contains(&reactions.contains(*key));
        if let Some((key, allowed)) = self.reactions.iter().find(is_wrong) {
            return Some(format!("has the reaction {key:?} or not, where acknowledged was {allowed:?}"));
        }
        let unasked = reactions.iter().find(|key| !self.reactions.contains_key(*key));
        unasked.map(|key| format!("has the reaction {key:?} that nobody asked for"))
    }
}

/// Whether a change was certainly made; `None` if it certainly was not.
fn made(evidence: &Evidence, change: &RequestedChange) -> Option<bool> {
    match change.outcome {
        ChangeOutcome::Acknowledged => Some(!evidence.is_change_undone(change.settled)),
        ChangeOutcome::Unknown => Some(false),
        // Refused, unless an earlier try was carried out before there was a reason to refuse.
        ChangeOutcome::Deleted | ChangeOutcome::NotFound => (change.unknown_tries > 0).then_some(false),
    }
}

fn change_to<T: Ord>(allowed: &mut BTreeSet<T>, value: T, is_certain: bool) {
    if is_certain {
        allowed.clear();
    }
    allowed.insert(value);
}

/// What kind of change of what an entry is: target, user, kind.
type Counted<'a> = (Uuid, &'a str, CountedKind<'a>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CountedKind<'a> {
    Edit,
    Delete,
    React(&'a str, bool),
}

/// How often something is in the log, at least and at most, and how often it really is.
#[derive(Default)]
struct Times {
    least: usize,
    most: usize,
    stored: usize,
}

/// Sentences about changes that are in the log more or less often than editors were told.
fn miscounted<'a>(
    evidence: &Evidence,
    contents: &'a EditedRoom,
    changes: impl Iterator<Item = &'a RequestedChange> + Clone,
) -> Vec<String> {
    let counted = |change: &'a RequestedChange| -> Counted<'a> {
        let kind = match &change.request {
            ChangeRequest::Edit(_) => CountedKind::Edit,
            ChangeRequest::Delete => CountedKind::Delete,
            ChangeRequest::React { emoji, on } => CountedKind::React(emoji, *on),
        };
        (change.target, &change.username, kind)
    };
    // After an uncertain one, the next change of the same thing may find nothing to do.
    let uncertain: BTreeSet<(Uuid, &str)> = changes
        .clone()
        .filter(|change| made(evidence, change) == Some(false))
        .map(|change| (change.target, change.username.as_str()))
        .collect();
    let is_lost = |id| evidence.restores.iter().any(|restore| restore.lost.contains(&id));
    let mut times: BTreeMap<Counted<'a>, Times> = BTreeMap::new();
    for change in changes {
        let Some(is_certain) = made(evidence, change) else {
            continue;
        };
        let times = times.entry(counted(change)).or_default();
        times.most += 1;
        let is_exact = !uncertain.contains(&(change.target, change.username.as_str())) && !is_lost(change.target);
        times.least += usize::from(is_certain && is_exact);
    }
    for entry in &contents.log {
        let (target, kind) = match &entry.kind {
            EntryKind::Message(_) | EntryKind::Member { .. } | EntryKind::Created { .. } => continue,
            EntryKind::Edit { target, .. } => (target, CountedKind::Edit),
            EntryKind::Delete { target } => (target, CountedKind::Delete),
            EntryKind::Reaction { target, emoji, on, .. } => (target, CountedKind::React(emoji, *on)),
        };
        times.entry((target.id, &entry.username, kind)).or_default().stored += 1;
    }
    let wrong = times.into_iter().filter(|(_, times)| !(times.least..=times.most).contains(&times.stored));
    wrong
        .map(|((target, user, kind), Times { least, most, stored })| {
            format!(
                "{kind:?} of {target} by {user} is in the log {stored} times, where {least} to {most} were acknowledged"
            )
        })
        .collect()
}

/// A change is refused because its message is deleted, or not there, only if that is so, and a reply likewise.
pub(in crate::oracle) fn true_refusals(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut deletions: HashMap<Uuid, Vec<&RequestedChange>> = HashMap::new();
    for change in evidence.edited.changes.iter().filter(|change| change.request == ChangeRequest::Delete) {
        deletions.entry(change.target).or_default().push(change);
    }
    for post in evidence.edited.posts.iter().filter(|post| post.outcome == PostOutcome::NoSuchReply) {
        let is_deleted = |target| {
            let mut deletions = deletions.get(&target).into_iter().flatten();
            deletions.any(|deletion| deletion.sent < post.settled && made(evidence, deletion).is_some())
        };
        let is_lost = |target| evidence.restores.iter().any(|restore| restore.lost.contains(&target));
        if !post.reply_to.is_some_and(|target| is_deleted(target) || is_lost(target)) {
            let sentence = format!("a reply was refused for no reason: {post:?}");
            found.push(Violation::new(Invariant::TrueResponses, sentence));
        }
    }
    for change in &evidence.edited.changes {
        let contents = evidence.edited.contents.get(change.room);
        let mut messages = contents.iter().flat_map(|contents| &contents.log).filter_map(LogEntry::message);
        let is_lost = || evidence.restores.iter().any(|restore| restore.lost.contains(&change.target));
        let is_true = match change.outcome {
            ChangeOutcome::Acknowledged | ChangeOutcome::Unknown => true,
            ChangeOutcome::Deleted => {
                messages.any(|message| message.id == change.target && message.deleted)
                    || evidence.is_change_undone(change.settled)
                    || is_lost()
            }
            ChangeOutcome::NotFound => is_lost(),
        };
        if !is_true {
            let sentence = format!("a change was refused for no reason: {change:?}");
            found.push(Violation::new(Invariant::TrueResponses, sentence));
        }
    }
    found
}
