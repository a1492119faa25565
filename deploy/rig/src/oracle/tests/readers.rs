//! What readers saw: streams, history pages, and ends of streams.

use std::collections::BTreeSet;

use super::fixture::{BOUNDS, at, broken, healthy, id, interval, message, post, received, restored, text};
use super::members::joined;
use crate::evidence::{ByeReason, Evidence, Message, PlainEntry, Post, Received};
use crate::oracle::judge;
use crate::oracle::violation::Invariant;

#[test]
fn restore_excuses_only_its_losses_and_resets_everybody() {
    assert_eq!(judge(&restored(), &BOUNDS), []);
    let found = |change: fn(&mut Evidence)| {
        let mut evidence = restored();
        change(&mut evidence);
        judge(&evidence, &BOUNDS).into_iter().map(|violation| violation.invariant).collect::<BTreeSet<_>>()
    };
    let of = |invariant| BTreeSet::from([invariant]);
    // What was in the accept log, or accepted afterwards, must be there.
    assert_eq!(found(|evidence| assert!(evidence.restores[0].lost.remove(&id(4)))), of(Invariant::Kept));
    assert_eq!(
        found(|evidence| assert!(evidence.restores[0].undone.remove(&id(5)))),
        of(Invariant::ReceivedIsStored)
    );
    // A subscriber resumes without a reset, or does not come back at all.
    assert_eq!(found(|evidence| evidence.streams[2].reset = None), of(Invariant::Contiguous));
    assert_eq!(found(|evidence| drop(evidence.streams.pop())), of(Invariant::Contiguous));
    // A subscriber is reset, or its stream ends because of a new epoch, although nothing was restored.
    assert!(found(|evidence| evidence.restores.clear()).is_superset(&[Invariant::Kept, Invariant::TrueReasons].into()));
    assert_eq!(found(|evidence| evidence.streams[0].reset = Some(3)), of(Invariant::Contiguous));
}

#[test]
fn history_that_changed_after_reading_is_found() {
    let found = broken(|evidence| evidence.history_pages[0].messages[0].id = id(99));
    assert_eq!(found, [Invariant::Unchanging].into());
    let hole = broken(|evidence| evidence.history_pages[0].messages = vec![message(4), message(2)]);
    assert_eq!(hole, [Invariant::Unchanging].into());
}

#[test]
fn stream_with_hole_double_or_wrong_start_is_found() {
    let only = [Invariant::Contiguous].into();
    assert_eq!(
        broken(|evidence| {
            evidence.streams[0].received.remove(1);
        }),
        only
    );
    assert_eq!(broken(|evidence| evidence.streams[0].received.push(received(3))), only);
    assert_eq!(broken(|evidence| evidence.streams[1].ready = 2), only);
    assert_eq!(broken(|evidence| evidence.streams[1].received[0].cursor = 3), only);
    assert_eq!(broken(|evidence| evidence.final_positions[0].last = 4), only);
    // A reset is not an excuse while the cursor is good.
    assert_eq!(broken(|evidence| evidence.streams[1].reset = Some(3)), only);
}

#[test]
fn received_message_that_history_lacks_is_found() {
    let found = broken(|evidence| {
        evidence.streams[0].received[1].entry = PlainEntry::Message(Message {
            text: text(99),
            ..message(2)
        });
    });
    assert_eq!(found, [Invariant::ReceivedIsStored].into());
    let beyond = broken(|evidence| evidence.streams[1].received.push(received(6)));
    assert!(beyond.contains(&Invariant::ReceivedIsStored), "{beyond:?}");
}

#[test]
fn stream_that_outlives_membership_is_found() {
    let only = [Invariant::LeavingTakesEffect].into();
    assert_eq!(broken(|evidence| evidence.departures[0].last_received = Some(at(12))), only);
    assert_eq!(broken(|evidence| evidence.departures[0].ended = Some(at(12))), only);
    assert_eq!(broken(|evidence| evidence.departures[0].ended = None), only);
    let unreachable_gateway = |evidence: &mut Evidence| {
        evidence.departures[0].ended = Some(at(12));
        evidence.unreachable.push(interval(0, 10..12));
    };
    assert_eq!(broken(unreachable_gateway), [].into());
    let unnotified = |evidence: &mut Evidence| {
        evidence.departures[0].ended = None;
        evidence.unnotified.push(interval(0, 10..12));
    };
    assert_eq!(broken(unnotified), [].into());
}

#[test]
fn forged_event_is_found() {
    let found = broken(|evidence| evidence.streams[0].unexpected_events.push("event: bye".to_owned()));
    assert_eq!(found, [Invariant::NoForgery].into());
}

#[test]
fn false_bye_reason_is_found() {
    let only = [Invariant::TrueReasons].into();
    for bye in [ByeReason::Removed, ByeReason::Revoked, ByeReason::Other] {
        assert_eq!(broken(|evidence| evidence.streams[0].bye = Some(bye)), only);
    }
    assert_eq!(broken(|evidence| evidence.streams[0].bye = Some(ByeReason::Shutdown)), BTreeSet::new());
    assert_eq!(broken(|evidence| evidence.departures[0].bye = Some(ByeReason::Revoked)), only);
}

#[test]
fn entries_beside_messages_belong_to_the_log() {
    let contiguous = [Invariant::Contiguous].into();
    // Not shown, or shown again.
    assert_eq!(broken(|evidence| drop(evidence.streams[2].received.remove(0))), contiguous);
    let again = evidence_of_joining();
    assert_eq!(broken(|evidence| evidence.streams[2].received.insert(1, again)), contiguous);
    assert_eq!(broken(|evidence| evidence.final_positions[1].last = 2), contiguous);
    // Another one than the log has.
    let other = broken(|evidence| {
        let entry = &mut evidence.streams[2].received[0].entry;
        *entry = PlainEntry::Other(Box::new(joined(2, "bob")));
    });
    assert_eq!(other, [Invariant::ReceivedIsStored].into());
    // Missing in the database.
    let missing = broken(|evidence| drop(evidence.others[1].remove(1)));
    assert_eq!(missing, [Invariant::Dense, Invariant::ReceivedIsStored].into());
    // A page of history whose messages have another entry between them is whole.
    let page = broken(|evidence| {
        let old = Message { seq: 1, ..message(9) };
        for rooms in [&mut evidence.history, &mut evidence.rows] {
            rooms[1].insert(0, old);
        }
        evidence.others[1].remove(0);
        evidence.posts.push(Post { room: 1, ..post(9) });
        evidence.history_pages[0].room = 1;
        evidence.history_pages[0].messages = vec![Message { seq: 3, ..message(8) }, old];
    });
    assert!(!page.contains(&Invariant::Unchanging), "{page:?}");
}

fn evidence_of_joining() -> Received<PlainEntry> {
    healthy().streams[2].received[0].clone()
}
