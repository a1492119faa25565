//! What devices that follow all rooms of their user got of them (I18, and for them I8, I15, I16 and I19).
//!
//! Each record says what the device had when it asked, so each is judged by itself; and at the end every device must have exactly the
//! rooms of its user, each to its last entry.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::violation::{Bounds, Invariant, Violation};
use crate::evidence::{
    ByeReason, Evidence, LogEntry, PlainEntry, Restore, RoomNews, Sequenced as _, UserReceived, UserRecord,
    UserRoomCall, UserSource, rooms_of,
};

/// I18: in each room a device gets exactly what follows what it had, once and in order, and in the end everything.
pub(super) fn contiguous(evidence: &Evidence) -> Vec<Violation> {
    let of_users = &evidence.user_streams;
    let mut found = Vec::new();
    let mut report = |sentence| found.push(Violation::new(Invariant::UserStreams, sentence));
    for record in &of_users.records {
        if let Some(sentence) = false_start(record, &evidence.restores).or_else(|| discontinuity(record)) {
            report(format!("{}: {sentence}", describe(record)));
        }
    }
    for restore in &evidence.restores {
        for device in without_reset(&of_users.records, restore) {
            report(format!("device {device} was not told of the restore at {:?}", restore.from));
        }
    }
    for device in &of_users.final_rooms {
        let expected = rooms_of(&device.username, &of_users.rooms);
        for (room, head) in &expected {
            match device.rooms.get(room) {
                Some(last) if last == head => {}
                last => report(format!(
                    "device {} of {} stopped at {last:?} of {room}, whose head is {head}",
                    device.device, device.username
                )),
            }
        }
        for room in device.rooms.keys().filter(|room| !expected.contains_key(*room)) {
            let sentence = "was not told that the user is no longer in it";
            report(format!("device {} of {} still has {room}, and {sentence}", device.device, device.username));
        }
    }
    found
}

/// Why a record may not have begun as it did.
fn false_start(record: &UserRecord, restores: &[Restore]) -> Option<String> {
    // Cursors stay good, unless the database is restored.
    let is_excused = restores.iter().any(|restore| record.opened >= restore.from);
    let is_reset = record.received.iter().any(|received| matches!(received.news, RoomNews::Reset(_)));
    match record.is_resumed {
        true if !record.has_recovered && !is_excused => Some("does not go on from a good cursor".to_owned()),
        false if record.has_recovered => Some("goes on from a cursor of a beginning".to_owned()),
        _ if is_reset && !is_excused => Some("resets rooms of a good cursor".to_owned()),
        true | false => None,
    }
}

/// What a device has of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Everything up to this seq.
    At(i64),
    /// Nothing: the room begins behind this seq or before it.
    Upto(i64),
}

/// How a record differs from what follows what the device had, if it does.
fn discontinuity(record: &UserRecord) -> Option<String> {
    let place = |(room, seq): (&'_ String, &'_ i64)| {
        if record.unbegun.contains(room) {
            Place::Upto(*seq)
        } else {
            Place::At(*seq)
        }
    };
    let known = record.has_recovered.then_some(&record.known).into_iter().flatten();
    let mut places: HashMap<&str, Place> = known.map(|known| (known.0.as_str(), place(known))).collect();
    for received in &record.received {
        if let Err(sentence) = follow(&mut places, received, record.was_paged) {
            return Some(format!("{}: {sentence}, at {:?}", received.room, received.at));
        }
    }
    None
}

/// Goes on in the places of a device.
fn follow<'a>(places: &mut HashMap<&'a str, Place>, received: &'a UserReceived, was_paged: bool) -> Result<(), String> {
    let room = received.room.as_str();
    let place = places.get(room).copied();
    let next = match (&received.news, place) {
        (RoomNews::State(head), None) if was_paged => Place::Upto(*head),
        (RoomNews::State(head), None) | (RoomNews::Reset(head), _) => Place::At(*head),
        (RoomNews::State(_) | RoomNews::Preview(_), Some(place)) => place,
        (RoomNews::Gone, _) => {
            places.remove(room);
            return Ok(());
        }
        (RoomNews::Gap(from, to), Some(Place::At(last))) if *from == last + 1 && to >= from => Place::At(*to),
        (RoomNews::Gap(from, to), Some(Place::Upto(head))) if *from <= head + 1 && to >= from => Place::At(*to),
        (RoomNews::Entry(entry), Some(Place::At(last))) if entry.seq() == last + 1 => Place::At(entry.seq()),
        (RoomNews::Entry(entry), Some(Place::Upto(head))) if entry.seq() <= head + 1 => Place::At(entry.seq()),
        (RoomNews::Gap(from, to), place) => return Err(format!("{place:?} was followed by a gap of {from} to {to}")),
        (RoomNews::Entry(entry), place) => return Err(format!("{place:?} was followed by seq {}", entry.seq())),
        (RoomNews::Preview(entry), None) => return Err(format!("a preview of seq {} without a state", entry.seq())),
    };
    places.insert(room, next);
    Ok(())
}

/// The devices that had something before a restore and were not told of it.
fn without_reset(records: &[UserRecord], restore: &Restore) -> Vec<usize> {
    let devices = |selected: &dyn Fn(&&UserRecord) -> bool| -> HashSet<usize> {
        records.iter().filter(selected).map(|record| record.device).collect()
    };
    let before = devices(&|record| record.opened < restore.from);
    let told = devices(&|record| record.opened >= restore.from && !record.has_recovered);
    let mut devices: Vec<usize> = before.difference(&told).copied().collect();
    devices.sort_unstable();
    devices
}

/// I8: what a device got is in the log of the room in the end, in the rooms whose logs are known.
pub(super) fn received_is_stored(evidence: &Evidence) -> Vec<Violation> {
    let logs = Logs::of(evidence);
    let mut found = Vec::new();
    for record in &evidence.user_streams.records {
        for received in &record.received {
            let (RoomNews::Entry(entry) | RoomNews::Preview(entry)) = &received.news else {
                continue;
            };
            let is_undone = evidence.is_change_undone(received.at)
                || entry.message().is_some_and(|message| evidence.is_undone(message.id, received.at));
            if !is_undone && logs.has(&received.room, entry) == Some(false) {
                let sentence = format!(
                    "{} received {entry:?} in {}, which its log does not hold",
                    describe(record),
                    received.room
                );
                found.push(Violation::new(Invariant::ReceivedIsStored, sentence));
            }
        }
    }
    found
}

/// The logs of the rooms that nobody creates again, by their names. Texts may have changed since they were shown.
struct Logs<'a> {
    messages: HashMap<&'a str, HashMap<i64, Uuid>>,
    others: HashMap<&'a str, HashMap<i64, &'a LogEntry>>,
}

impl<'a> Logs<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let (mut messages, mut others) = (HashMap::new(), HashMap::new());
        for (room, name) in evidence.room_names.iter().enumerate() {
            let history = evidence.history.get(room).into_iter().flatten();
            messages.insert(name.as_str(), history.map(|message| (message.seq, message.id)).collect());
            let entries = evidence.others.get(room).into_iter().flatten();
            others.insert(name.as_str(), entries.map(|entry| (entry.seq, entry)).collect());
        }
        for (name, contents) in evidence.edited.names.iter().zip(&evidence.edited.contents) {
            let of_log = contents.log.iter();
            let ids = of_log.clone().filter_map(|entry| Some((entry.seq, entry.message()?.id)));
            messages.insert(name.as_str(), ids.collect());
            let entries = of_log.filter(|entry| entry.message().is_none());
            others.insert(name.as_str(), entries.map(|entry| (entry.seq, entry)).collect());
        }
        Self { messages, others }
    }

    /// Whether the log of `room` has `entry`; `None` if its log is not known.
    fn has(&self, room: &str, entry: &PlainEntry) -> Option<bool> {
        Some(match entry {
            PlainEntry::Message(message) => self.messages.get(room)?.get(&message.seq) == Some(&message.id),
            PlainEntry::Other(entry) => {
                self.others.get(room)?.get(&entry.seq).is_some_and(|stored| stored.is_same(entry))
            }
        })
    }
}

/// I15, I18 and I19: nothing comes of a room that the user was never in, or ceased to be in more than a second ago.
pub(super) fn within_membership(evidence: &Evidence, bounds: &Bounds) -> Vec<Violation> {
    let mut calls: HashMap<(&str, &str), Vec<&UserRoomCall>> = HashMap::new();
    for call in &evidence.user_streams.calls {
        calls.entry((&call.username, &call.room)).or_default().push(call);
    }
    let mut found = Vec::new();
    for record in &evidence.user_streams.records {
        for received in &record.received {
            if received.news == RoomNews::Gone {
                continue;
            }
            let of_room = calls.get(&(record.username.as_str(), received.room.as_str())).map_or(&[][..], Vec::as_slice);
            let sentence = match membership_at(evidence, of_room, received.at) {
                Membership::Never => "in which the user never was".to_owned(),
                // What the rig itself held back proves nothing.
                Membership::Until(end)
                    if received.at > end + bounds.removal && !was_held_back(evidence, record, (end, received.at)) =>
                {
                    format!("in which the user was until {end:?}")
                }
                Membership::Until(_) | Membership::Possible => continue,
            };
            let (room, at) = (&received.room, received.at);
            let sentence = format!("{} got {:?} of {room} at {at:?}, {sentence}", describe(record), received.news);
            found.push(Violation::new(Invariant::LeavingTakesEffect, sentence));
        }
    }
    found
}

/// Whether a user was in a room at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    /// They never asked for it.
    Never,
    /// They may have been.
    Possible,
    /// No longer, since a call of theirs was acknowledged at this time.
    Until(Duration),
}

/// Whether the user of `calls`, in their order, was in their room at some time. A restore may have undone what was acknowledged.
fn membership_at(evidence: &Evidence, calls: &[&UserRoomCall], at: Duration) -> Membership {
    let mut membership = Membership::Never;
    for call in calls.iter().filter(|call| call.sent <= at) {
        membership = match membership {
            _ if call.is_in => Membership::Possible,
            Membership::Possible
                if call.is_acknowledged && call.settled <= at && !evidence.is_change_undone(call.settled) =>
            {
                Membership::Until(call.settled)
            }
            unchanged @ (Membership::Never | Membership::Possible | Membership::Until(_)) => unchanged,
        };
    }
    membership
}

fn was_held_back(evidence: &Evidence, record: &UserRecord, (from, until): (Duration, Duration)) -> bool {
    evidence.was_unreachable(record.gateway, from, until) || evidence.was_unnotified(record.gateway, from, until)
}

/// I16, and that streams end for the reason they name: the stream of all rooms outlives each of them.
pub(super) fn no_forgery(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for record in &evidence.user_streams.records {
        let unexpected = record.unexpected_events.iter();
        let forged = |event| Violation::new(Invariant::NoForgery, format!("{} got {event}", describe(record)));
        found.extend(unexpected.map(forged));
        let is_restored = evidence.restores.iter().any(|restore| record.opened < restore.until);
        let is_true = match record.bye {
            None | Some(ByeReason::Shutdown) => true,
            Some(ByeReason::HistoryChanged) => is_restored,
            Some(ByeReason::Removed | ByeReason::Revoked | ByeReason::Other) => false,
        };
        if !is_true {
            let sentence = format!("{} ended with {:?}", describe(record), record.bye);
            found.push(Violation::new(Invariant::TrueReasons, sentence));
        }
    }
    found
}

/// How the sentence of a violation refers to a record.
fn describe(record: &UserRecord) -> String {
    let what = match record.source {
        UserSource::Stream => "the stream",
        UserSource::Sync => "the answer",
    };
    let (device, user, gateway, asked) = (record.device, &record.username, record.gateway, record.requested);
    format!("{what} of device {device} of {user}, asked for at {asked:?} of gateway {gateway}")
}
