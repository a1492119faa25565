//! Who is in a room: by its log, by the table, and by what users were told (I21).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::violation::{Invariant, Violation};
use crate::evidence::{EntryKind, Evidence, LogEntry, MemberChange, MembershipCall, RoomMembers};

/// Those who are members after `entries` of a room, from its beginning.
pub(super) fn apply<'a>(entries: impl IntoIterator<Item = &'a LogEntry>) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    for entry in entries {
        match &entry.kind {
            EntryKind::Created { .. } => drop(members.insert(entry.username.clone())),
            EntryKind::Member { member, change } if change.is_member() => drop(members.insert(member.clone())),
            EntryKind::Member { member, .. } => drop(members.remove(member)),
            EntryKind::Message(_) | EntryKind::Edit { .. } | EntryKind::Delete { .. } | EntryKind::Reaction { .. } => {}
        }
    }
    members
}

/// I21: the log of each room begins with its creation, each of its other entries changes who is a member, and what they leave is
/// what the table has.
pub(super) fn in_the_log(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for room in &evidence.room_members {
        let mut report = |sentence: String| {
            let sentence = format!("{} ({}): {sentence}", room.room, room.incarnation);
            found.push(Violation::new(Invariant::Members, sentence));
        };
        let created = room.log.first().filter(|entry| entry.seq == 1 && entry.username == room.owner);
        if !created.is_some_and(|entry| matches!(entry.kind, EntryKind::Created { .. })) {
            report(format!("its log begins with {:?}, and not with its creation by {}", room.log.first(), room.owner));
        }
        let mut members: BTreeSet<&str> = [room.owner.as_str()].into();
        for entry in room.log.iter().skip(1) {
            let EntryKind::Member { member, change } = &entry.kind else {
                report(format!("{entry:?} comes after its beginning"));
                continue;
            };
            let changes = match change {
                MemberChange::Joined { role } => {
                    let expected = if *member == room.owner { "owner" } else { "member" };
                    members.insert(member) && role == expected
                }
                MemberChange::Left => members.remove(member.as_str()),
            };
            if !changes || *member != entry.username {
                report(format!("{entry:?} changes nothing, or is not what the user did"));
            }
        }
        let by_log = apply(&room.log);
        if by_log != room.members {
            let differing: Vec<&String> = by_log.symmetric_difference(&room.members).collect();
            report(format!("its log and its table differ in {differing:?}"));
        }
    }
    if evidence.left_in_outbox > 0 {
        let sentence = format!("{} changes of members or rooms are in no log", evidence.left_in_outbox);
        found.push(Violation::new(Invariant::Members, sentence));
    }
    found
}

/// I21: each acknowledged call of a user who records all of them is one entry if it changed something, in the order of the calls,
/// and before what the user posted later; whoever posts is a member by the log; and nobody joins or leaves unasked.
pub(super) fn as_called(evidence: &Evidence) -> Vec<Violation> {
    let mut calls: HashMap<(&str, &str), Vec<&MembershipCall>> = HashMap::new();
    let mut users: HashSet<&str> = HashSet::new();
    for call in &evidence.membership_calls {
        calls.entry((&call.room, &call.username)).or_default().push(call);
        users.insert(&call.username);
    }
    let mut found = Vec::new();
    for room in &evidence.room_members {
        let mut entries: HashMap<&str, Vec<(i64, bool)>> = HashMap::new();
        for entry in &room.log {
            if let EntryKind::Member { member, change } = &entry.kind {
                entries.entry(member).or_default().push((entry.seq, change.is_member()));
            }
        }
        for user in &users {
            let timeline = Timeline {
                room,
                entries: entries.get(user).map_or(&[][..], Vec::as_slice),
                starts_as_member: room.owner == *user,
            };
            let of_user = calls.get(&(room.room.as_str(), *user)).map_or(&[][..], Vec::as_slice);
            if let Some(sentence) = timeline.contradiction(evidence, of_user) {
                let sentence = format!("{user} in {} ({}): {sentence}", room.room, room.incarnation);
                found.push(Violation::new(Invariant::Members, sentence));
            }
        }
    }
    found
}

/// The entries of one user in the log of one room.
struct Timeline<'a> {
    room: &'a RoomMembers,
    /// Seq, and whether the user is a member since.
    entries: &'a [(i64, bool)],
    starts_as_member: bool,
}

/// What may be so at some time: how many of the entries were made, and how many calls of unknown outcome, joining and leaving, may
/// still take effect.
type State = (usize, [usize; 2]);

impl Timeline<'_> {
    /// How the entries contradict the user's calls, if they do.
    fn contradiction(&self, evidence: &Evidence, calls: &[&MembershipCall]) -> Option<String> {
        let mut states: BTreeSet<State> = [(0, [0, 0])].into();
        for call in calls {
            let is_undone = evidence.is_change_undone(call.settled);
            let is_certain = call.is_acknowledged && !is_undone;
            let unknown = usize::try_from(call.unknown_tries).unwrap_or_default()
                + usize::from(call.is_acknowledged && is_undone);
            states = states.into_iter().map(|(made, pending)| (made, add(pending, call.joins, unknown))).collect();
            self.add_late(&mut states);
            if is_certain {
                states = states.into_iter().filter_map(|state| self.after(state, call.joins)).collect();
                if let Some(seq) = call.posted.and_then(|id| self.room.messages.get(&id)) {
                    // What was done before a message was accepted comes before it. What was done later may, too, if the user
                    // was back before the message was stored.
                    let before = self.entries.partition_point(|(entry, _)| entry < seq);
                    states.retain(|(made, _)| *made <= before);
                    if !self.is_member(before) {
                        return Some(format!("posted what has seq {seq}, and is no member by {:?} then", self.entries));
                    }
                }
                if states.is_empty() {
                    return Some(format!("{call:?} has no entry at its place among {:?}", self.entries));
                }
                self.add_late(&mut states);
            }
        }
        let is_all = states.iter().any(|(made, _)| *made == self.entries.len());
        (!is_all).then(|| format!("{} calls do not explain all of {:?}", calls.len(), self.entries))
    }

    /// Whether the user is a member after so many entries.
    fn is_member(&self, made: usize) -> bool {
        made.checked_sub(1).map_or(self.starts_as_member, |last| self.entries[last].1)
    }

    /// The state after a call that certainly took effect; `None` if the entry that it makes does not come next.
    fn after(&self, (made, pending): State, joins: bool) -> Option<State> {
        if self.is_member(made) == joins {
            return Some((made, pending));
        }
        self.entries
            .get(made)
            .is_some_and(|(_, is_member)| *is_member == joins)
            .then_some((made + 1, pending))
    }

    /// Adds the states to which calls of unknown outcome may lead.
    fn add_late(&self, states: &mut BTreeSet<State>) {
        let mut new: Vec<State> = states.iter().copied().collect();
        while let Some((made, pending)) = new.pop() {
            let Some((_, joins)) = self.entries.get(made).copied() else {
                continue;
            };
            let left = pending[usize::from(joins)].checked_sub(1);
            let late = left.map(|left| {
                let mut pending = pending;
                pending[usize::from(joins)] = left;
                (made + 1, pending)
            });
            new.extend(late.filter(|late| states.insert(*late)));
        }
    }
}

/// `pending` with so many further calls that join or leave.
fn add(mut pending: [usize; 2], joins: bool, count: usize) -> [usize; 2] {
    pending[usize::from(joins)] += count;
    pending
}
