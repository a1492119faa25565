//! Responses, and the sampled state of the servers.

use std::collections::BTreeSet;

use super::fixture::{at, broken, id, interval, position, room_response};
use crate::evidence::{ByeReason, Evidence, RoomOperation};
use crate::oracle::violation::Invariant;

#[test]
fn sampled_server_state_is_judged() {
    assert_eq!(broken(|evidence| evidence.missing_during_run.push(id(2))), [Invariant::LogKeeps].into());
    assert_eq!(broken(|evidence| evidence.positions.push(position(4, 2, "b"))), [Invariant::OnlyForward].into());
    assert_eq!(broken(|evidence| evidence.positions.push(position(6, 1, "a"))), [Invariant::OnlyForward].into());
    assert_eq!(broken(|evidence| evidence.positions.push(position(6, 2, "a"))), [Invariant::OneOwner].into());
    let foreign = |evidence: &mut Evidence| evidence.foreign_commits.push("a at fence 2".to_owned());
    assert_eq!(broken(foreign), [Invariant::OneOwner].into());
    assert_eq!(broken(|evidence| evidence.memory[0].kib = 1_001), [Invariant::MemoryBounded].into());
}

#[test]
fn hanging_post_and_response_outside_contract_are_found() {
    let only = [Invariant::Demand].into();
    assert_eq!(broken(|evidence| evidence.slow_posts.push(interval(0, 20..26))), only);
    // A post may take as long as the bound says.
    assert_eq!(broken(|evidence| evidence.slow_posts.push(interval(0, 20..25))), BTreeSet::new());
    assert_eq!(broken(|evidence| evidence.slow_posts[0].gateway = 1), only);
    assert_eq!(broken(|evidence| evidence.unreachable[0].until = at(2)), only);
    assert_eq!(broken(|evidence| evidence.unexpected_responses.push("500".to_owned())), only);
}

#[test]
fn untrue_response_is_found() {
    let only = [Invariant::TrueResponses].into();
    // Each response is inverted.
    for (index, status) in [
        (0, 200),
        (1, 409),
        (2, 201),
        (3, 404),
        (4, 204),
        (5, 204),
        (7, 404),
        (8, 404),
    ] {
        let found = broken(|evidence| evidence.room_responses[index].status = status);
        assert!(found.contains(&Invariant::TrueResponses), "{index}: {found:?}");
    }
    assert_eq!(broken(|evidence| evidence.room_responses[7].status = 500), only);
}

#[test]
fn message_missing_from_its_incarnation_is_found() {
    let only = [Invariant::Kept].into();
    let elsewhere = |evidence: &mut Evidence| {
        evidence.room_contents[1].messages.remove(0);
        evidence.room_contents[0].messages.push(id(50));
    };
    assert_eq!(broken(elsewhere), only);
    assert_eq!(broken(|evidence| evidence.room_contents[1].messages.push(id(50))), only);
    // A message stays stored when its room is deleted.
    assert_eq!(
        broken(|evidence| evidence.room_responses.push(room_response(RoomOperation::Delete, 204))),
        BTreeSet::new()
    );
}

#[test]
fn rejoined_user_who_is_no_member_is_found() {
    let only = [Invariant::TrueResponses].into();
    assert_eq!(broken(|evidence| evidence.rejoins[0].is_listed = Some(false)), only);
    assert_eq!(broken(|evidence| evidence.rejoins[0].ended = Some(ByeReason::Removed)), only);
    assert_eq!(broken(|evidence| evidence.rejoins[0].posted = Some(id(99))), only);
    assert_eq!(broken(|evidence| evidence.rejoins[0].is_listed = None), BTreeSet::new());
    assert_eq!(broken(|evidence| evidence.rejoins[0].ended = Some(ByeReason::Shutdown)), BTreeSet::new());
}
