//! Members: changes of a membership that are lost, doubled, in the wrong order, or that nobody asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{at, broken, id};
use crate::evidence::{EntryKind, Evidence, LogEntry, MemberChange, MembershipCall, Restore, RoomMembers};
use crate::oracle::violation::Invariant;

/// The message that `bob` posts on coming back, which joins the room.
const POSTED: u32 = 80;

pub(super) fn created(seq: i64) -> LogEntry {
    LogEntry {
        seq,
        username: "owner".to_owned(),
        kind: EntryKind::Created { private: false },
    }
}

pub(super) fn joined(seq: i64, user: &str) -> LogEntry {
    let role = if user == "owner" { "owner" } else { "member" }.to_owned();
    member(seq, user, MemberChange::Joined { role })
}

pub(super) fn left(seq: i64, user: &str) -> LogEntry {
    member(seq, user, MemberChange::Left)
}

fn member(seq: i64, user: &str, change: MemberChange) -> LogEntry {
    let member = user.to_owned();
    LogEntry {
        seq,
        username: user.to_owned(),
        kind: EntryKind::Member { member, change },
    }
}

fn call(user: &str, joins: bool, settled: Duration) -> MembershipCall {
    MembershipCall {
        room: "room".to_owned(),
        username: user.to_owned(),
        joins,
        posted: None,
        settled,
        is_acknowledged: true,
        unknown_tries: 0,
    }
}

fn unknown(call: MembershipCall) -> MembershipCall {
    MembershipCall {
        is_acknowledged: false,
        unknown_tries: 1,
        ..call
    }
}

/// `bob` joins, joins again, leaves, and comes back by a post; the owner leaves and comes back.
pub(super) fn membership_calls() -> Vec<MembershipCall> {
    vec![
        call("bob", true, at(10)),
        call("bob", true, at(11)),
        call("bob", false, at(12)),
        MembershipCall {
            posted: Some(id(POSTED)),
            ..call("bob", true, at(13))
        },
        call("owner", false, at(12)),
        call("owner", true, at(14)),
    ]
}

/// The room in which they do: message `POSTED` has seq 6. `carl`, of whom no calls are recorded, is there too.
pub(super) fn room_members() -> RoomMembers {
    RoomMembers {
        room: "room".to_owned(),
        incarnation: 0,
        owner: "owner".to_owned(),
        log: vec![
            created(1),
            joined(2, "bob"),
            left(3, "bob"),
            left(4, "owner"),
            joined(5, "bob"),
            joined(7, "owner"),
            joined(8, "carl"),
        ],
        members: ["owner", "bob", "carl"].map(str::to_owned).into(),
        messages: [(id(POSTED), 6)].into(),
    }
}

fn found(change: impl FnOnce(&mut Evidence)) -> BTreeSet<Invariant> {
    broken(change)
}

fn room(evidence: &mut Evidence) -> &mut RoomMembers {
    &mut evidence.room_members[0]
}

const MEMBERS: [Invariant; 1] = [Invariant::Members];

#[test]
fn lost_entry_of_a_membership_is_found() {
    for index in 0..7 {
        let lost = found(|evidence| drop(room(evidence).log.remove(index)));
        assert_eq!(lost, MEMBERS.into(), "entry {index}");
    }
    // Both entries of leaving and coming back: the rest of the log is as if neither had happened.
    let both = found(|evidence| drop(room(evidence).log.drain(2..4)));
    assert_eq!(both, MEMBERS.into());
    let pair = found(|evidence| room(evidence).log.retain(|entry| ![3, 5].contains(&entry.seq)));
    assert_eq!(pair, MEMBERS.into());
    assert_eq!(found(|evidence| evidence.left_in_outbox = 1), MEMBERS.into());
}

#[test]
fn doubled_entry_of_a_membership_is_found() {
    for index in 0..7 {
        let doubled = found(|evidence| {
            let entry = room(evidence).log[index].clone();
            room(evidence).log.insert(index, entry);
        });
        assert_eq!(doubled, MEMBERS.into(), "entry {index}");
    }
    // Leaving and joining once more than was asked for.
    let unasked = found(|evidence| room(evidence).log.extend([left(9, "bob"), joined(10, "bob")]));
    assert_eq!(unasked, MEMBERS.into());
}

#[test]
fn entries_in_another_order_than_the_calls_are_found() {
    let swapped = found(|evidence| {
        let log = &mut room(evidence).log;
        (log[1], log[2]) = (left(2, "bob"), joined(3, "bob"));
    });
    assert_eq!(swapped, MEMBERS.into());
    // The message comes before the join that allows it, or after the leaving that was asked for later.
    let late = found(|evidence| assert_eq!(room(evidence).messages.insert(id(POSTED), 4), Some(6)));
    assert_eq!(late, MEMBERS.into());
    let leaves_again = |evidence: &mut Evidence| {
        evidence.membership_calls.push(call("bob", false, at(20)));
        room(evidence).log.push(left(9, "bob"));
        room(evidence).members.remove("bob");
    };
    let early = found(|evidence| {
        leaves_again(evidence);
        assert_eq!(room(evidence).messages.insert(id(POSTED), 10), Some(6));
    });
    assert_eq!(early, MEMBERS.into());
    // It is stored when the user is back.
    let back = found(|evidence| {
        leaves_again(evidence);
        evidence.membership_calls.push(call("bob", true, at(21)));
        room(evidence).log.push(joined(10, "bob"));
        room(evidence).members.insert("bob".to_owned());
        assert_eq!(room(evidence).messages.insert(id(POSTED), 11), Some(6));
    });
    assert_eq!(back, BTreeSet::new());
}

#[test]
fn table_or_role_that_differs_from_the_log_is_found() {
    assert_eq!(found(|evidence| assert!(room(evidence).members.remove("carl"))), MEMBERS.into());
    assert_eq!(found(|evidence| assert!(room(evidence).members.insert("eve".to_owned()))), MEMBERS.into());
    let role = found(|evidence| {
        let role = "owner".to_owned();
        room(evidence).log[1] = member(2, "bob", MemberChange::Joined { role });
    });
    assert_eq!(role, MEMBERS.into());
    let by_other = found(|evidence| room(evidence).log[1].username = "carl".to_owned());
    assert_eq!(by_other, MEMBERS.into());
    let other_owner = found(|evidence| room(evidence).owner = "carl".to_owned());
    assert_eq!(other_owner, MEMBERS.into());
}

#[test]
fn call_of_unknown_outcome_may_take_effect_once_or_never_or_late() {
    let leaving = unknown(call("bob", false, at(20)));
    let never = found(|evidence| evidence.membership_calls.push(leaving.clone()));
    assert_eq!(never, BTreeSet::new());
    let once = found(|evidence| {
        evidence.membership_calls.push(leaving.clone());
        room(evidence).log.push(left(9, "bob"));
        room(evidence).members.remove("bob");
    });
    assert_eq!(once, BTreeSet::new());
    // It is repeated and acknowledged, and the first try takes effect after the user has come back.
    let late = found(|evidence| {
        evidence.membership_calls.extend([
            MembershipCall {
                unknown_tries: 1,
                ..call("bob", false, at(20))
            },
            call("bob", true, at(21)),
        ]);
        room(evidence).log.extend([left(9, "bob"), joined(10, "bob"), left(11, "bob")]);
        room(evidence).members.remove("bob");
    });
    assert_eq!(late, BTreeSet::new());
    let twice = found(|evidence| {
        evidence.membership_calls.push(leaving.clone());
        evidence.membership_calls.push(call("bob", true, at(21)));
        let log = &mut room(evidence).log;
        log.extend([left(9, "bob"), joined(10, "bob"), left(11, "bob"), joined(12, "bob")]);
    });
    assert_eq!(twice, MEMBERS.into());
}

#[test]
fn restore_excuses_calls_after_the_copy_alone() {
    let leaving = |settled| {
        found(|evidence| {
            // Nothing of the fixture but this room is as after a restore.
            let (calls, rooms) = (membership_calls(), vec![room_members()]);
            *evidence = Evidence {
                membership_calls: calls,
                room_members: rooms,
                restores: vec![Restore {
                    copied: at(190),
                    from: at(200),
                    until: at(210),
                    ..Restore::default()
                }],
                ..Evidence::default()
            };
            evidence.membership_calls.push(call("bob", false, at(settled)));
        })
    };
    assert_eq!(leaving(195), BTreeSet::new());
    assert_eq!(leaving(189), MEMBERS.into());
    assert_eq!(leaving(211), MEMBERS.into());
}
