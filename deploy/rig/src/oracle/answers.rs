//! What an answer or a `bye` says was so.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Invariant, Violation};
use crate::evidence::{Answered, Bye, Deed, Evidence};

/// The landlords' rooms: each is there from its 201 to its 204, at every gateway, and what was taken for it is stored in it.
pub(super) fn true_answers(evidence: &Evidence) -> Vec<Violation> {
    let mut rooms: HashMap<&str, Room> = HashMap::new();
    let stored: HashMap<(&str, i64), &Vec<Uuid>> = evidence
        .lodges
        .iter()
        .map(|lodge| ((lodge.room.as_str(), lodge.incarnation), &lodge.messages))
        .collect();
    let mut found = Vec::new();
    for answered in &evidence.answered {
        let room = rooms.entry(&answered.room).or_default();
        if !room.agrees(answered) {
            let Answered {
                room: name,
                deed,
                status,
                at,
                ..
            } = answered;
            let existed = if room.exists { "was there" } else { "was not there" };
            let sentence = format!("{deed:?} of {name} got {status} at {at:?}, and it {existed}");
            found.push(Violation::new(Invariant::TrueAnswers, sentence));
        }
        if let (Deed::Post, 204) = (answered.deed, answered.status) {
            let place = (answered.room.as_str(), room.made - 1);
            let times = stored
                .get(&place)
                .map_or(0, |messages| messages.iter().filter(|message| Some(**message) == answered.id).count());
            if times != 1 {
                let (name, number) = place;
                let sentence =
                    format!("{:?} was taken for room {number} of {name} and is there {times} times", answered.id);
                found.push(Violation::new(Invariant::Kept, sentence));
            }
        }
        room.learn(answered);
    }
    found
}

/// One name of a landlord, as the answers tell of it.
#[derive(Default)]
struct Room {
    exists: bool,
    /// How many rooms had the name so far.
    made: i64,
}

impl Room {
    /// Whether the answer is true.
    fn agrees(&self, answered: &Answered) -> bool {
        match (answered.deed, answered.status) {
            (Deed::Create, 201) | (Deed::Delete | Deed::Look | Deed::Post, 404) => !self.exists,
            (Deed::Create, 409) | (Deed::Look, 200) | (Deed::Delete | Deed::Post, 204) => self.exists,
            _ => false,
        }
    }

    /// Believes the answer, true or not: the next one is judged by it.
    fn learn(&mut self, answered: &Answered) {
        match (answered.deed, answered.status) {
            (Deed::Create, 201) => {
                self.exists = true;
                self.made += 1;
            }
            (Deed::Create, 409) => self.exists = true,
            (Deed::Delete, 204 | 404) => self.exists = false,
            _ => {}
        }
    }
}

/// Who comes back is in: on the list, and on a stream that does not end as if they had left.
pub(super) fn back_is_back(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut complain = |sentence| found.push(Violation::new(Invariant::TrueAnswers, sentence));
    for back in &evidence.returns {
        let (room, left) = (&back.room, back.left);
        if back.is_listed == Some(false) {
            complain(format!("who left {room} at {left:?} and came back is not a member"));
        }
        if let Some(bye) = back.ended.filter(|bye| *bye != Bye::Shutdown) {
            complain(format!("who left {room} at {left:?} and came back was told {bye:?}"));
        }
        let is_there =
            |id: &Uuid| evidence.lodges.iter().any(|lodge| lodge.room == *room && lodge.messages.contains(id));
        if let Some(id) = back.posted.filter(|id| !is_there(id)) {
            complain(format!("{id}, posted on coming back to {room}, is not there"));
        }
    }
    found
}

/// A stream ends for the reason it names. No phone ever leaves, signs out, or has an old token.
pub(super) fn true_reasons(evidence: &Evidence) -> Vec<Violation> {
    let phones = evidence.sessions.iter().filter_map(|session| {
        let is_restored = evidence.restores.iter().any(|restore| session.opened < restore.until);
        let bye = session.bye.filter(|bye| match bye {
            Bye::Shutdown => false,
            Bye::HistoryChanged => !is_restored,
            Bye::Removed | Bye::Revoked | Bye::Other => true,
        })?;
        Some(format!("phone {} in room {} was told {bye:?}", session.phone, session.room))
    });
    let left = evidence.departures.iter().filter_map(|departure| {
        let bye = departure.bye.filter(|bye| !matches!(bye, Bye::Removed | Bye::Shutdown))?;
        Some(format!("who left room {} at {:?} was told {bye:?}", departure.room, departure.left))
    });
    phones.chain(left).map(|sentence| Violation::new(Invariant::TrueReasons, sentence)).collect()
}
