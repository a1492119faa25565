//! Edits, deletions and reactions: lost, doubled, undone, never asked for, and shown wrongly.

use std::collections::BTreeSet;

use super::edited_room::{
    EDITED, FIRST, PARTY, POSTED, REPLY, SECOND, change, edit, edited_room, followed, react, reaction, replayed,
    restored_room, rewrite_first, room_with_members,
};
use super::fixture::{BOUNDS, at, broken, id, text};
use super::members::left;
use crate::evidence::{
    ByeReason, ChangeOutcome, ChangeRequest, EditedRooms, EntryKind, Evidence, Post, PostOutcome, RequestedChange,
    ShownMessage,
};
use crate::oracle::judge;
use crate::oracle::violation::Invariant;

/// The invariants that are found broken after `change` of the evidence of the edited room.
fn found(change: impl FnOnce(&mut EditedRooms)) -> BTreeSet<Invariant> {
    broken(|evidence| change(&mut evidence.edited))
}

#[test]
fn follower_with_a_hole_a_double_or_a_wrong_start_is_found() {
    let only = [Invariant::Contiguous].into();
    let double = edited_room().streams[0].received[4].clone();
    assert_eq!(found(|edited| edited.streams[0].received.push(double)), only);
    assert_eq!(found(|edited| edited.streams[0].received[2].cursor = 2), only);
    assert_eq!(found(|edited| edited.final_positions[1].last = 6), only);
    assert!(found(|edited| edited.streams[1].ready = 6).contains(&Invariant::Contiguous));
    assert!(found(|edited| edited.streams[1].reset = Some(5)).contains(&Invariant::Contiguous));
    let hole = found(|edited| drop(edited.streams[4].received.remove(3)));
    assert!(hole.is_superset(&[Invariant::Contiguous].into()), "{hole:?}");
}

#[test]
fn forged_event_and_false_end_of_a_follower_are_found() {
    let forged = found(|edited| edited.streams[0].unexpected_events.push("event: bye".to_owned()));
    assert_eq!(forged, [Invariant::NoForgery].into());
    assert_eq!(found(|edited| edited.streams[0].bye = Some(ByeReason::Removed)), [Invariant::TrueReasons].into());
    assert_eq!(found(|edited| edited.streams[0].bye = Some(ByeReason::Shutdown)), BTreeSet::new());
}

#[test]
fn state_that_differs_from_the_applied_log_is_found() {
    let only = [Invariant::Applied].into();
    // The last entry is missing.
    assert_eq!(found(|edited| drop(edited.streams[2].received.pop())), only);
    // An edit that is sent with another text than history has.
    assert_eq!(found(|edited| edited.streams[2].received[1].entry = edit(4, 99)), only);
    // A count that is sent wrongly is another entry than that of the others, too.
    let count = found(|edited| edited.streams[4].received[5].entry = reaction(6, "bob", false, 3));
    assert_eq!(count, [Invariant::Applied, Invariant::OneLog].into());
    // A deletion that is sent as something else.
    let kept = found(|edited| edited.streams[1].received[1].entry = edit(7, EDITED));
    assert!(kept.contains(&Invariant::OneLog), "{kept:?}");
    // What SQL has and history does not show.
    let in_sql = found(|edited| {
        if let EntryKind::Message(message) = &mut edited.contents[0].log[0].kind {
            message.edited_on = Some(5_000);
        }
    });
    assert_eq!(in_sql, only);
    let counts = broken(|evidence| rewrite_first(evidence, |message| message.reactions.clear()));
    assert_eq!(counts, only);
}

#[test]
fn log_that_contradicts_itself_is_found() {
    // A change that changes nothing: the same reaction twice in a row.
    let doubled = found(|edited| edited.contents[0].log[5] = reaction(6, "ann", true, 2));
    assert!(doubled.is_superset(&[Invariant::OneLog, Invariant::ChangesHold].into()), "{doubled:?}");
    let of_nothing = found(|edited| {
        if let EntryKind::Delete { target } = &mut edited.contents[0].log[6].kind {
            target.seq = 3;
        }
    });
    assert!(of_nothing.contains(&Invariant::OneLog), "{of_nothing:?}");
    let hole = found(|edited| drop(edited.contents[0].log.remove(4)));
    assert!(hole.contains(&Invariant::Dense), "{hole:?}");
    let table = found(|edited| {
        edited.contents[0].reactions.insert((1, PARTY.to_owned(), "bob".to_owned()));
    });
    assert!(table.is_superset(&[Invariant::OneLog, Invariant::ChangesHold].into()), "{table:?}");
}

#[test]
fn lost_and_doubled_posts_of_editors_are_found() {
    let unknown = |outcome| Post {
        outcome,
        ..edited_room().posts[0].clone()
    };
    // Somebody posted it, and nobody did.
    let lost = found(|edited| edited.posts[0].outcome = PostOutcome::Acknowledged(id(FIRST + 9)));
    assert!(lost.is_superset(&[Invariant::Kept, Invariant::Balanced].into()), "{lost:?}");
    let doubled = found(|edited| edited.contents[0].log.push(replayed().remove(0)));
    assert!(doubled.contains(&Invariant::Once), "{doubled:?}");
    // A message of unknown outcome may be there or not, but not if every try was refused.
    let absent = |outcome| {
        move |edited: &mut EditedRooms| {
            edited.posts.push(Post {
                text: text(98),
                ..unknown(outcome)
            });
        }
    };
    assert_eq!(found(absent(PostOutcome::Unknown)), BTreeSet::new());
    assert_eq!(found(absent(PostOutcome::Refused)), BTreeSet::new());
    let refused = found(|edited| {
        edited.posts.push(Post {
            text: text(EDITED),
            ..unknown(PostOutcome::Refused)
        });
    });
    assert_eq!(refused, [Invariant::Converges].into());
}

#[test]
fn acknowledged_change_that_does_not_hold_is_found() {
    let holds = Invariant::ChangesHold;
    let only = BTreeSet::from([holds]);
    // Each acknowledged change is missing once.
    for missing in [
        change(FIRST, "ann", ChangeRequest::Edit(text(99)), at(91)),
        change(FIRST, "ann", ChangeRequest::Delete, at(91)),
        change(FIRST, "bob", react(true), at(91)),
        change(FIRST, "ann", react(false), at(91)),
    ] {
        assert_eq!(found(|edited| edited.changes.push(missing)), only);
    }
    // It is in the log, and the message is what it was before, or what nobody asked for.
    for number in [POSTED, 99] {
        let other_text = broken(|evidence| rewrite_first(evidence, |message| message.text = text(number)));
        assert!(other_text.contains(&holds), "{other_text:?}");
    }
    let undeleted = found(|edited| {
        let contents = &mut edited.contents[0];
        for entry in [&mut contents.history[1], &mut contents.log[1]] {
            if let EntryKind::Message(message) = &mut entry.kind {
                (message.deleted, message.text) = (false, text(71));
            }
        }
    });
    assert!(undeleted.contains(&holds), "{undeleted:?}");
    let text_left = found(|edited| {
        if let EntryKind::Message(message) = &mut edited.contents[0].log[1].kind {
            message.text = text(71);
        }
    });
    assert!(text_left.contains(&holds), "{text_left:?}");
}

#[test]
fn change_that_nobody_asked_for_or_that_happened_twice_is_found() {
    let holds = Invariant::ChangesHold;
    for index in 0..5 {
        let unasked = found(|edited| drop(edited.changes.remove(index)));
        assert!(unasked.contains(&holds), "{index}: {unasked:?}");
    }
    let twice = found(|edited| edited.contents[0].log.push(edit(8, EDITED)));
    assert!(twice.contains(&holds), "{twice:?}");
}

#[test]
fn unknown_change_may_be_made_or_not() {
    let unknown = |change: RequestedChange| RequestedChange {
        outcome: ChangeOutcome::Unknown,
        unknown_tries: 1,
        ..change
    };
    // The last thing that happened to each.
    for index in [1, 2, 3, 4] {
        let made = found(|edited| edited.changes[index] = unknown(edited.changes[index].clone()));
        assert_eq!(made, BTreeSet::new(), "{index}");
    }
    for request in [ChangeRequest::Edit(text(99)), ChangeRequest::Delete, react(false)] {
        let not_made = found(|edited| edited.changes.push(unknown(change(FIRST, "ann", request, at(91)))));
        assert_eq!(not_made, BTreeSet::new());
    }
}

#[test]
fn false_refusal_of_a_change_is_found() {
    let only = [Invariant::TrueResponses].into();
    let refused = |number, outcome| RequestedChange {
        outcome,
        ..change(number, "ann", react(false), at(91))
    };
    assert_eq!(found(|edited| edited.changes.push(refused(FIRST, ChangeOutcome::Deleted))), only);
    assert_eq!(found(|edited| edited.changes.push(refused(SECOND, ChangeOutcome::NotFound))), only);
    assert_eq!(found(|edited| edited.changes.push(refused(SECOND, ChangeOutcome::Deleted))), BTreeSet::new());
}

#[test]
fn restore_excuses_changes_after_the_copy_and_resets_followers() {
    assert_eq!(judge(&restored_room(), &BOUNDS), []);
    let found = |change: fn(&mut Evidence)| {
        let mut evidence = restored_room();
        change(&mut evidence);
        judge(&evidence, &BOUNDS).into_iter().map(|violation| violation.invariant).collect::<BTreeSet<_>>()
    };
    // What was acknowledged before the copy, or after the restore, must hold.
    let early = found(|evidence| evidence.edited.changes[6].settled = at(189));
    assert_eq!(early, [Invariant::ChangesHold].into());
    let late = found(|evidence| evidence.edited.changes[6].settled = at(211));
    assert_eq!(late, [Invariant::ChangesHold].into());
    let seen = found(|evidence| evidence.edited.streams[5].received[0].at = at(189));
    assert_eq!(seen, [Invariant::OneLog].into());
    // A follower resumes without a reset, or does not come back at all.
    let without = found(|evidence| evidence.edited.streams[6].reset = None);
    assert_eq!(without, [Invariant::Contiguous].into());
    let gone = found(|evidence| drop(evidence.edited.streams.drain(8..)));
    assert!(gone.contains(&Invariant::Contiguous), "{gone:?}");
    assert!(found(|evidence| evidence.restores.clear()).contains(&Invariant::Contiguous));
}

#[test]
fn shown_text_of_an_edit_counts_only_at_the_end() {
    // A follower that was shown an older text of the same edit, and the right one later.
    let older = found(|edited| {
        edited.streams[1].received.truncate(1);
        edited.streams[0].received[3].entry = edit(4, POSTED);
        edited.streams.insert(2, followed(0, Some(0), 0, replayed()));
    });
    assert_eq!(older, BTreeSet::new());
}

/// The invariants that are found broken after `change` of the evidence of the room with members and a reply.
fn found_with_members(change: impl FnOnce(&mut EditedRooms)) -> BTreeSet<Invariant> {
    broken(|evidence| {
        evidence.edited = room_with_members();
        change(&mut evidence.edited);
    })
}

/// Changes the reply in history and in the database alike.
fn rewrite_reply(edited: &mut EditedRooms, change: impl Fn(&mut ShownMessage)) {
    let contents = &mut edited.contents[0];
    for entry in [&mut contents.history[2], &mut contents.log[10]] {
        if let EntryKind::Message(message) = &mut entry.kind {
            change(message);
        }
    }
}

#[test]
fn members_that_differ_from_the_applied_log_are_found() {
    let only = [Invariant::Applied].into();
    assert_eq!(found_with_members(|_| {}), BTreeSet::new());
    assert_eq!(found_with_members(|edited| assert!(edited.contents[0].members.insert("carl".to_owned()))), only);
    assert_eq!(found_with_members(|edited| assert!(edited.contents[0].members.remove("bob"))), only);
    // One follower was shown that somebody else has left.
    let other = found_with_members(|edited| edited.streams[5].received[2].entry = left(10, "bob"));
    assert_eq!(other, [Invariant::Applied, Invariant::OneLog].into());
}

#[test]
fn reply_to_what_is_not_there_is_found() {
    let one_log = Invariant::OneLog;
    for (number, reply) in [("nothing", 98), ("a deleted one", SECOND)] {
        let target = Some(id(reply));
        let found = found_with_members(|edited| {
            rewrite_reply(edited, |message| message.reply_to = target);
            edited.posts[2].reply_to = target;
        });
        assert!(found.contains(&one_log), "{number}: {found:?}");
    }
}

#[test]
fn reply_with_other_links_than_were_posted_is_found() {
    let other_target = found_with_members(|edited| edited.posts[2].reply_to = Some(id(SECOND)));
    assert_eq!(other_target, [Invariant::ChangesHold].into());
    let other_mentions = found_with_members(|edited| edited.posts[2].mentions.push("bob".to_owned()));
    assert_eq!(other_mentions, [Invariant::ChangesHold].into());
    // What is shown of a mention is part of the state.
    let shown = found_with_members(|edited| {
        if let EntryKind::Message(message) = &mut edited.streams[5].received[3].entry.kind {
            message.mentions.clear();
        }
    });
    assert_eq!(shown, [Invariant::Applied].into());
}

#[test]
fn false_refusal_of_a_reply_is_found() {
    let only = [Invariant::TrueResponses].into();
    assert_eq!(found_with_members(|edited| edited.posts[3].reply_to = Some(id(FIRST))), only);
    // Refused before the deletion was asked for.
    assert_eq!(found_with_members(|edited| edited.posts[3].settled = at(80)), only);
    // Refused, and in the log.
    let stored = found_with_members(|edited| edited.posts[3].text = text(EDITED));
    assert_eq!(stored, [Invariant::Converges].into());
    let after_unknown = found_with_members(|edited| {
        (edited.posts[3].text, edited.posts[3].unknown_tries) = (text(EDITED), 1);
    });
    assert_eq!(after_unknown, BTreeSet::new());
}

#[test]
fn deleted_text_on_a_later_stream_is_found() {
    let only = [Invariant::DeletedIsGone].into();
    // The stream of those who saw it live was asked for before the deletion, which was acknowledged at 84.
    let asked = |requested| found(|edited| edited.streams[0].requested = at(requested));
    assert_eq!(asked(84), BTreeSet::new());
    assert_eq!(asked(85), only);
    // The text of an edit of a message that is deleted since.
    let edited_text = broken(|evidence| {
        evidence.edited = room_with_members();
        evidence.edited.changes.push(change(REPLY, "bob", ChangeRequest::Edit(text(EDITED)), at(40)));
        evidence.edited.changes.push(change(REPLY, "bob", ChangeRequest::Delete, at(41)));
        evidence.edited.streams[4].requested = at(42);
    });
    assert!(edited_text.contains(&Invariant::DeletedIsGone), "{edited_text:?}");
    // Not all gateways could be told.
    let unannounced = |interval: std::ops::Range<u64>| {
        broken(|evidence| {
            evidence.edited.streams[0].requested = at(85);
            evidence.unannounced.push(at(interval.start)..at(interval.end));
        })
    };
    assert_eq!(unannounced(83..84), BTreeSet::new());
    assert_eq!(unannounced(85..86), only);
    // A deletion of which nobody knows whether it was made, or that a restore has undone, promises nothing.
    let unknown = found(|edited| {
        edited.streams[0].requested = at(85);
        (edited.changes[4].outcome, edited.changes[4].unknown_tries) = (ChangeOutcome::Unknown, 1);
    });
    assert_eq!(unknown, BTreeSet::new());
}
