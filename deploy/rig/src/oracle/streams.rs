//! What readers saw (I6, I7, I8, I15, I16).

use std::collections::BTreeSet;

use super::violation::{Bounds, Invariant, Violation};
use crate::evidence::{Departure, Evidence, Message, PlainEntry, Restore, Sequenced, StreamRecord};

/// The message at `seq` of `room` in the final history.
fn stored(evidence: &Evidence, room: usize, seq: i64) -> Option<&Message> {
    let history = evidence.history.get(room)?;
    history.binary_search_by_key(&seq, |message| message.seq).ok().map(|index| &history[index])
}

/// Whether the log of `room` has `entry` in the end.
fn is_stored(evidence: &Evidence, room: usize, entry: &PlainEntry) -> bool {
    match entry {
        PlainEntry::Message(message) => stored(evidence, room, message.seq) == Some(message),
        PlainEntry::Other(entry) => evidence.others.get(room).is_some_and(|others| others.contains(entry)),
    }
}

/// I7: within a stream, from one stream of a subscriber to its next, and to the end of the room.
pub(super) fn contiguous(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for stream in &evidence.streams {
        if let Some(sentence) = discontinuity(stream, &evidence.restores) {
            let (subscriber, room, gateway) = (stream.subscriber, stream.room, stream.gateway);
            let sentence = format!("subscriber {subscriber} in room {room} at gateway {gateway}: {sentence}");
            found.push(Violation::new(Invariant::Contiguous, sentence));
        }
    }
    let missing = evidence.restores.iter().flat_map(|restore| missing_resets(&evidence.streams, restore));
    found.extend(missing.map(|sentence| Violation::new(Invariant::Contiguous, format!("subscriber {sentence}"))));
    for position in &evidence.final_positions {
        let head = evidence.head(position.room);
        if position.last != head {
            let (subscriber, room, last) = (position.subscriber, position.room, position.last);
            let sentence =
                format!("subscriber {subscriber} stopped at seq {last} of room {room}, whose head is {head}");
            found.push(Violation::new(Invariant::Contiguous, sentence));
        }
    }
    found
}

/// Sentences about the subscribers that had a stream before a restore and got no `reset` after it.
pub(super) fn missing_resets<E>(streams: &[StreamRecord<E>], restore: &Restore) -> Vec<String> {
    let subscribers = |selected: &dyn Fn(&&StreamRecord<E>) -> bool| -> BTreeSet<usize> {
        streams.iter().filter(selected).map(|stream| stream.subscriber).collect()
    };
    let before = subscribers(&|stream| stream.opened < restore.from);
    let reset = subscribers(&|stream| stream.opened >= restore.from && stream.reset.is_some());
    let sentence = |subscriber: &usize| format!("{subscriber} got no reset after the restore at {:?}", restore.from);
    before.difference(&reset).map(sentence).collect()
}

/// How a stream differs from what follows its cursor, if it does.
pub(super) fn discontinuity<E: Sequenced>(stream: &StreamRecord<E>, restores: &[Restore]) -> Option<String> {
    let mut position = match start(stream, restores) {
        Ok(position) => position,
        Err(sentence) => return Some(sentence),
    };
    for received in &stream.received {
        if let Err(sentence) = next(&mut position, received.entry.seq(), received.cursor) {
            return Some(format!("{sentence}, at {:?}", received.at));
        }
    }
    None
}

/// Goes on from `position` to the entry `seq`, whose event has the seq `cursor` in its id.
fn next(position: &mut i64, seq: i64, cursor: i64) -> Result<(), String> {
    if seq != *position + 1 {
        return Err(format!("after seq {position} came {seq}"));
    }
    if cursor != seq {
        return Err(format!("the event of seq {seq} has the id of {cursor}"));
    }
    *position = seq;
    Ok(())
}

/// The position at which a stream begins, or how that differs from its cursor.
fn start<E>(stream: &StreamRecord<E>, restores: &[Restore]) -> Result<i64, String> {
    // Rooms are not deleted here: every cursor that was given out stays good, unless the database is restored.
    let is_foreign = stream.resumed_epoch.is_some_and(|epoch| epoch != stream.epoch);
    if is_foreign && restores.is_empty() {
        return Err(format!("the epoch became {}, and nothing was restored", stream.epoch));
    }
    let is_between = restores.iter().any(|restore| stream.opened >= restore.from && stream.opened <= restore.until);
    match (stream.reset, stream.resumed_after) {
        (Some(head), cursor) if !is_foreign && !is_between => {
            Err(format!("reset to {head} after {cursor:?}, although the cursor was good"))
        }
        (None, Some(cursor)) if is_foreign && !stream.received.is_empty() => {
            Err(format!("resumed after {cursor} of another epoch without a reset"))
        }
        (None, Some(cursor)) if !is_foreign && stream.ready != cursor => {
            Err(format!("resumed after {cursor}, and ready said {}", stream.ready))
        }
        (Some(_) | None, _) => Ok(stream.ready),
    }
}

/// I8.
pub(super) fn received_is_stored(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for stream in &evidence.streams {
        for received in &stream.received {
            let is_undone = match &received.entry {
                PlainEntry::Message(message) => evidence.is_undone(message.id, received.at),
                PlainEntry::Other(_) => evidence.is_change_undone(received.at),
            };
            if !is_undone && !is_stored(evidence, stream.room, &received.entry) {
                let (subscriber, room, entry) = (stream.subscriber, stream.room, &received.entry);
                let sentence =
                    format!("subscriber {subscriber} received {entry:?} in room {room}, which its log does not hold");
                found.push(Violation::new(Invariant::ReceivedIsStored, sentence));
            }
        }
    }
    found
}

/// I6.
pub(super) fn unchanging(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for page in &evidence.history_pages {
        let is_stored = |message: &Message| {
            stored(evidence, page.room, message.seq) == Some(message) || evidence.is_undone(message.id, page.at)
        };
        let changed = page.messages.iter().find(|message| !is_stored(message));
        if let Some(message) = changed {
            let (room, at) = (page.room, page.at);
            let sentence = format!("history of room {room} showed {message:?} at {at:?} and does not at the end");
            found.push(Violation::new(Invariant::Unchanging, sentence));
        }
        // Between two messages there may be entries that are none.
        let messages = evidence.history.get(page.room).map_or(&[][..], Vec::as_slice);
        let follow = |newer: &Message, older: &Message| {
            let first = messages.partition_point(|message| message.seq <= older.seq);
            newer.seq > older.seq && messages.get(first).is_none_or(|message| message.seq >= newer.seq)
        };
        let is_whole = page.messages.windows(2).all(|pair| follow(&pair[0], &pair[1]));
        if !is_whole && !evidence.is_change_undone(page.at) {
            let sentence = format!("a page of room {} read at {:?} has a hole", page.room, page.at);
            found.push(Violation::new(Invariant::Unchanging, sentence));
        }
    }
    found
}

/// I16.
pub(super) fn no_forgery(evidence: &Evidence) -> Vec<Violation> {
    let unexpected = evidence
        .streams
        .iter()
        .flat_map(|stream| stream.unexpected_events.iter().map(move |event| (stream, event)));
    unexpected
        .map(|(stream, event)| {
            let sentence = format!("subscriber {} in room {} got {event}", stream.subscriber, stream.room);
            Violation::new(Invariant::NoForgery, sentence)
        })
        .collect()
}

/// I15.
pub(super) fn leaving_takes_effect(evidence: &Evidence, bounds: &Bounds) -> Vec<Violation> {
    let mut found = Vec::new();
    // What the rig itself held back proves nothing.
    let was_held_back = |departure: &Departure| {
        let (gateway, from, until) = (departure.gateway, departure.left, departure.watched_until);
        evidence.was_unreachable(gateway, from, until) || evidence.was_unnotified(gateway, from, until)
    };
    for departure in evidence.departures.iter().filter(|departure| !was_held_back(departure)) {
        let limit = departure.left + bounds.removal;
        let (room, left) = (departure.room, departure.left);
        let sentence = match (departure.ended, departure.last_received) {
            (_, Some(received)) if received > limit => {
                format!("a user who left room {room} at {left:?} still received a message at {received:?}")
            }
            (None, _) => format!("the stream of a user who left room {room} at {left:?} did not end"),
            (Some(ended), _) if ended > limit => {
                format!("the stream of a user who left room {room} at {left:?} ended only at {ended:?}")
            }
            (Some(_), _) => continue,
        };
        found.push(Violation::new(Invariant::LeavingTakesEffect, sentence));
    }
    found
}
