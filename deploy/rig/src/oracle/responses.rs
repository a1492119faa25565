//! Whether responses and `bye` events were true.

use std::collections::HashMap;

use uuid::Uuid;

use super::violation::{Invariant, Violation};
use crate::evidence::{ByeReason, Evidence, Restore, RoomOperation, RoomResponse, StreamRecord};

/// Each room of a recreator exists from its 201 to its 204, at every gateway, and what was posted to it is stored in it.
pub(super) fn true_responses(evidence: &Evidence) -> Vec<Violation> {
    let mut rooms: HashMap<&str, Room> = HashMap::new();
    let stored: HashMap<(&str, i64), &Vec<Uuid>> = evidence
        .room_contents
        .iter()
        .map(|contents| ((contents.room.as_str(), contents.incarnation), &contents.messages))
        .collect();
    let mut found = Vec::new();
    for response in &evidence.room_responses {
        let room = rooms.entry(&response.room).or_default();
        if !room.agrees_with(response) {
            let RoomResponse {
                room: name,
                operation,
                status,
                at,
                ..
            } = response;
            let existed = if room.exists { "existed" } else { "did not exist" };
            let sentence = format!("{operation:?} of {name} got {status} at {at:?}, and the room {existed}");
            found.push(Violation::new(Invariant::TrueResponses, sentence));
        }
        if let (RoomOperation::Post, 204) = (response.operation, response.status) {
            let (name, number) = (response.room.as_str(), room.created - 1);
            let times = stored
                .get(&(name, number))
                .map_or(0, |messages| messages.iter().filter(|message| Some(**message) == response.id).count());
            if times != 1 {
                let sentence = format!(
                    "{:?} was acknowledged for room {number} of {name} and is there {times} times",
                    response.id
                );
                found.push(Violation::new(Invariant::Kept, sentence));
            }
        }
        room.apply(response);
    }
    found
}

/// The state of one room name, as the responses describe it.
#[derive(Default)]
struct Room {
    exists: bool,
    /// How many rooms had the name so far.
    created: i64,
}

impl Room {
    /// Whether the response is true.
    fn agrees_with(&self, response: &RoomResponse) -> bool {
        match (response.operation, response.status) {
            (RoomOperation::Create, 201) | (RoomOperation::Delete | RoomOperation::Get | RoomOperation::Post, 404) => {
                !self.exists
            }
            (RoomOperation::Create, 409)
            | (RoomOperation::Get, 200)
            | (RoomOperation::Delete | RoomOperation::Post, 204) => self.exists,
            _ => false,
        }
    }

    /// Takes over what the response says, true or not: the next one is judged by it.
    fn apply(&mut self, response: &RoomResponse) {
        match (response.operation, response.status) {
            (RoomOperation::Create, 201) => {
                self.exists = true;
                self.created += 1;
            }
            (RoomOperation::Create, 409) => self.exists = true,
            (RoomOperation::Delete, 204 | 404) => self.exists = false,
            _ => {}
        }
    }
}

/// A user who comes back is a member: on the list, and on a stream that does not end as if they had left.
pub(super) fn rejoined_is_member(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |sentence| found.push(Violation::new(Invariant::TrueResponses, sentence));
    for rejoin in &evidence.rejoins {
        let (room, left) = (&rejoin.room, rejoin.left);
        if rejoin.is_listed == Some(false) {
            report(format!("a user who left {room} at {left:?} and came back is not a member"));
        }
        if let Some(bye) = rejoin.ended.filter(|bye| *bye != ByeReason::Shutdown) {
            report(format!("the stream of a user who left {room} at {left:?} and came back ended with {bye:?}"));
        }
        let is_stored = |id: &Uuid| {
            let mut contents = evidence.room_contents.iter();
            contents.any(|contents| contents.room == *room && contents.messages.contains(id))
        };
        if let Some(id) = rejoin.posted.filter(|id| !is_stored(id)) {
            report(format!("{id}, posted on coming back to {room}, is not there"));
        }
    }
    found
}

/// A stream ends for the reason it names. No subscriber ever leaves, signs out, or has an old token.
pub(super) fn true_reasons(evidence: &Evidence) -> Vec<Violation> {
    let subscribers = evidence.streams.iter().filter_map(|stream| {
        let bye = false_reason(stream, &evidence.restores)?;
        Some(format!("the stream of subscriber {} in room {} ended with {bye:?}", stream.subscriber, stream.room))
    });
    let followers = evidence.edited.streams.iter().filter_map(|stream| {
        let bye = false_reason(stream, &evidence.restores)?;
        Some(format!(
            "the stream of follower {} in edited room {} ended with {bye:?}",
            stream.subscriber, stream.room
        ))
    });
    let departures = evidence.departures.iter().filter_map(|departure| {
        let bye = departure.bye.filter(|bye| !matches!(bye, ByeReason::Removed | ByeReason::Shutdown))?;
        let (room, left) = (departure.room, departure.left);
        Some(format!("the stream of a user who left room {room} at {left:?} ended with {bye:?}"))
    });
    subscribers
        .chain(followers)
        .chain(departures)
        .map(|sentence| Violation::new(Invariant::TrueReasons, sentence))
        .collect()
}

/// The reason that a stream of somebody who stays named for its end, if it was not the true one.
fn false_reason<E>(stream: &StreamRecord<E>, restores: &[Restore]) -> Option<ByeReason> {
    let is_restored = restores.iter().any(|restore| stream.opened < restore.until);
    stream.bye.filter(|bye| match bye {
        ByeReason::Shutdown => false,
        ByeReason::HistoryChanged => !is_restored,
        ByeReason::Removed | ByeReason::Revoked | ByeReason::Other => true,
    })
}
