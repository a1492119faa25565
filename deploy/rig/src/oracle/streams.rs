//! What clients saw (I6, I7, I8, I15, I16).

use std::collections::BTreeSet;

use super::{Bounds, Invariant, Violation};
use crate::evidence::{Departure, Evidence, Restore, Session, Shown};

/// The message at `seq` of `room` in the final history.
fn stored(evidence: &Evidence, room: usize, seq: i64) -> Option<&Shown> {
    let place = usize::try_from(seq.checked_sub(1)?).ok()?;
    evidence.history.get(room)?.get(place)
}

/// I7: within a stream, from one stream of a phone to its next, and to the end of the room.
pub(super) fn contiguous(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for session in &evidence.sessions {
        if let Some(sentence) = broken(session, &evidence.restores) {
            let (phone, room, gateway) = (session.phone, session.room, session.gateway);
            let sentence = format!("phone {phone} in room {room} at gateway {gateway}: {sentence}");
            found.push(Violation::new(Invariant::Contiguous, sentence));
        }
    }
    found.extend(evidence.restores.iter().flat_map(|restore| untold(evidence, restore)));
    for arrival in &evidence.arrivals {
        let head = evidence.history.get(arrival.room).and_then(|history| history.last()).map_or(0, |shown| shown.seq);
        if arrival.last != head {
            let (phone, room, last) = (arrival.phone, arrival.room, arrival.last);
            let sentence = format!("phone {phone} stopped at seq {last} of room {room}, whose head is {head}");
            found.push(Violation::new(Invariant::Contiguous, sentence));
        }
    }
    found
}

/// The phones that were there before a restore and were not told of it by a `reset`.
fn untold(evidence: &Evidence, restore: &Restore) -> Vec<Violation> {
    let phones = |picked: &dyn Fn(&&Session) -> bool| -> BTreeSet<usize> {
        evidence.sessions.iter().filter(picked).map(|session| session.phone).collect()
    };
    let there = phones(&|session| session.opened < restore.from);
    let told = phones(&|session| session.opened >= restore.from && session.reset.is_some());
    let sentence = |phone: &usize| format!("phone {phone} got no reset after the restore at {:?}", restore.from);
    there
        .difference(&told)
        .map(|phone| Violation::new(Invariant::Contiguous, sentence(phone)))
        .collect()
}

/// Where a stream is not what follows its cursor.
fn broken(session: &Session, restores: &[Restore]) -> Option<String> {
    // Rooms are not deleted here: every cursor that was given out stays good, unless the database is restored.
    let is_foreign = session.resumed_epoch.is_some_and(|epoch| epoch != session.epoch);
    if is_foreign && restores.is_empty() {
        return Some(format!("the epoch became {}, and nothing was restored", session.epoch));
    }
    let is_between = restores.iter().any(|restore| session.opened >= restore.from && session.opened <= restore.until);
    let mut position = match (session.reset, session.resumed_after) {
        (Some(head), cursor) if !is_foreign && !is_between => {
            return Some(format!("reset to {head} after {cursor:?}, although the cursor was good"));
        }
        (None, Some(cursor)) if is_foreign && !session.heard.is_empty() => {
            return Some(format!("resumed after {cursor} of another epoch without a reset"));
        }
        (None, Some(cursor)) if !is_foreign && session.ready != cursor => {
            return Some(format!("resumed after {cursor}, and ready said {}", session.ready));
        }
        (Some(_) | None, _) => session.ready,
    };
    for heard in &session.heard {
        let seq = heard.shown.seq;
        if seq != position + 1 {
            return Some(format!("after seq {position} came {seq}, at {:?}", heard.at));
        }
        if heard.cursor != seq {
            return Some(format!("the event of seq {seq} has the id of {}", heard.cursor));
        }
        position = seq;
    }
    None
}

/// I8.
pub(super) fn no_ghosts(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for session in &evidence.sessions {
        for heard in &session.heard {
            let is_there = stored(evidence, session.room, heard.shown.seq) == Some(&heard.shown);
            if !is_there && !evidence.is_undone(heard.shown.id, heard.at) {
                let (phone, room, shown) = (session.phone, session.room, heard.shown);
                let sentence = format!("phone {phone} heard {shown:?} in room {room}, which history does not hold");
                found.push(Violation::new(Invariant::NoGhosts, sentence));
            }
        }
    }
    found
}

/// I6.
pub(super) fn unchanging(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for reading in &evidence.readings {
        let is_there = |shown: &Shown| {
            stored(evidence, reading.room, shown.seq) == Some(shown) || evidence.is_undone(shown.id, reading.at)
        };
        let changed = reading.page.iter().find(|shown| !is_there(shown));
        if let Some(shown) = changed {
            let (room, at) = (reading.room, reading.at);
            let sentence = format!("history of room {room} showed {shown:?} at {at:?} and does not at the end");
            found.push(Violation::new(Invariant::Unchanging, sentence));
        }
        let is_dense = reading.page.windows(2).all(|pair| pair[0].seq == pair[1].seq + 1);
        if !is_dense {
            let sentence = format!("a page of room {} read at {:?} has a hole", reading.room, reading.at);
            found.push(Violation::new(Invariant::Unchanging, sentence));
        }
    }
    found
}

/// I16.
pub(super) fn no_forgery(evidence: &Evidence) -> Vec<Violation> {
    let strange = evidence
        .sessions
        .iter()
        .flat_map(|session| session.strange.iter().map(move |event| (session, event)));
    strange
        .map(|(session, event)| {
            let sentence = format!("phone {} in room {} got {event}", session.phone, session.room);
            Violation::new(Invariant::NoForgery, sentence)
        })
        .collect()
}

/// I15.
pub(super) fn left_is_left(evidence: &Evidence, bounds: &Bounds) -> Vec<Violation> {
    let mut found = Vec::new();
    // What waited for the rig itself to let it through says nothing.
    let was_dark = |departure: &Departure| {
        let (gateway, from, until) = (departure.gateway, departure.left, departure.watched_until);
        evidence.was_dark(gateway, from, until) || evidence.was_untold(gateway, from, until)
    };
    for departure in evidence.departures.iter().filter(|departure| !was_dark(departure)) {
        let limit = departure.left + bounds.removal;
        let (room, left) = (departure.room, departure.left);
        let sentence = match (departure.ended, departure.last_heard) {
            (_, Some(heard)) if heard > limit => {
                format!("who left room {room} at {left:?} heard it still at {heard:?}")
            }
            (None, _) => format!("the stream of who left room {room} at {left:?} did not end"),
            (Some(ended), _) if ended > limit => {
                format!("the stream of who left room {room} at {left:?} ended only at {ended:?}")
            }
            (Some(_), _) => continue,
        };
        found.push(Violation::new(Invariant::LeftIsLeft, sentence));
    }
    found
}
