//! Texts that were deleted (I20).

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::violation::{Invariant, Violation};
use crate::evidence::{ChangeOutcome, ChangeRequest, Digest, EntryKind, Evidence};

/// I20: no stream that is asked for after the acknowledgement of a deletion shows a text that the message ever had.
///
/// A gateway that is paused at that moment or cut off from Redis may have it for a while longer: deletions of such times are not
/// judged.
pub(super) fn deleted_is_gone(evidence: &Evidence) -> Vec<Violation> {
    let gone = gone(evidence);
    let mut found = Vec::new();
    for stream in &evidence.edited.streams {
        for received in &stream.received {
            let text = match &received.entry.kind {
                EntryKind::Message(message) => message.text,
                EntryKind::Edit { text, .. } => *text,
                EntryKind::Delete { .. }
                | EntryKind::Reaction { .. }
                | EntryKind::Member { .. }
                | EntryKind::Created { .. } => continue,
            };
            if let Some((message, deleted)) = gone.get(&text)
                && *deleted < stream.requested
            {
                let (follower, room, asked) = (stream.subscriber, stream.room, stream.requested);
                let sentence = format!(
                    "follower {follower} of edited room {room} asked for a stream of gateway {} at {asked:?} and got at \
                     {:?} a text of {message}, whose deletion was acknowledged at {deleted:?}: {:?}",
                    stream.gateway, received.at, received.entry
                );
                found.push(Violation::new(Invariant::DeletedIsGone, sentence));
            }
        }
    }
    found
}

/// The texts that deleted messages ever had, with the message and the time at which its deletion was acknowledged.
fn gone(evidence: &Evidence) -> HashMap<Digest, (Uuid, Duration)> {
    let mut deleted: HashMap<Uuid, Duration> = HashMap::new();
    for change in &evidence.edited.changes {
        let is_certain = change.outcome == ChangeOutcome::Acknowledged
            && !evidence.is_change_undone(change.settled)
            && !evidence.was_unannounced(change.sent, change.settled);
        if is_certain && change.request == ChangeRequest::Delete {
            let settled = deleted.entry(change.target).or_insert(change.settled);
            *settled = change.settled.min(*settled);
        }
    }
    let posted = evidence.edited.posts.iter().filter_map(|post| Some((post.outcome.id()?, post.text)));
    let edited = evidence.edited.changes.iter().filter_map(|change| match change.request {
        ChangeRequest::Edit(text) => Some((change.target, text)),
        ChangeRequest::Delete | ChangeRequest::React { .. } => None,
    });
    let gone = posted.chain(edited).filter_map(|(id, text)| Some((text, (id, *deleted.get(&id)?))));
    gone.collect()
}
