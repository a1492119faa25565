//! Each promise is broken once on paper: an oracle that cannot fail proves nothing.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;
use crate::evidence::{
    Answered, Arrival, Bye, Deed, Departure, Hang, Heard, Lodge, MemorySample, Outcome, Position, Reading, Restore,
    Return, Session,
};

const BOUNDS: Bounds = Bounds {
    removal: Duration::from_secs(1),
    memory_kib: 1_000,
    post: Duration::from_secs(5),
};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn text(number: u32) -> Digest {
    Digest::of(&format!("message {number}"))
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

fn shown(number: u32) -> Shown {
    Shown {
        seq: number.into(),
        id: id(number),
        text: text(number),
    }
}

fn post(number: u32) -> Post {
    Post {
        room: 0,
        sender: 0,
        number,
        text: text(number),
        sent: at(u64::from(number) * 10),
        settled: at(u64::from(number) * 10 + 1),
        outcome: Outcome::Acknowledged(id(number)),
        unknown_tries: 0,
    }
}

fn heard(number: u32) -> Heard {
    Heard {
        shown: shown(number),
        cursor: number.into(),
        at: at(100),
    }
}

fn session(ready: i64, resumed_after: Option<i64>, numbers: std::ops::RangeInclusive<u32>) -> Session {
    Session {
        phone: 0,
        room: 0,
        gateway: 0,
        resumed_after,
        resumed_epoch: resumed_after.map(|_| 7),
        ready,
        epoch: 7,
        reset: None,
        heard: numbers.map(heard).collect(),
        strange: Vec::new(),
        opened: at(0),
        bye: None,
    }
}

fn answered(deed: Deed, status: u16) -> Answered {
    Answered {
        room: "lodge".to_owned(),
        deed,
        status,
        id: (deed == Deed::Post && status == 204).then(|| id(50)),
        at: at(30),
    }
}

fn lodge(incarnation: i64, messages: &[u32]) -> Lodge {
    Lodge {
        room: "lodge".to_owned(),
        incarnation,
        messages: messages.iter().map(|number| id(*number)).collect(),
    }
}

fn position(cursor: i64, fence: i64, owner: &str) -> Position {
    Position {
        partition: 3,
        cursor: (cursor, 0),
        fence,
        owner: owner.to_owned(),
    }
}

fn hang(gateway: usize, time: std::ops::Range<u64>) -> Hang {
    Hang {
        gateway,
        from: at(time.start),
        until: at(time.end),
    }
}

/// A room that is made, deleted and made again, and asked for in between.
fn of_a_landlord() -> Vec<Answered> {
    vec![
        answered(Deed::Look, 404),
        answered(Deed::Create, 201),
        answered(Deed::Create, 409),
        answered(Deed::Delete, 204),
        answered(Deed::Delete, 404),
        answered(Deed::Post, 404),
        answered(Deed::Create, 201),
        answered(Deed::Look, 200),
        answered(Deed::Post, 204),
    ]
}

/// Five messages in one room, the last one of unknown outcome, and all is well.
fn healthy() -> Evidence {
    let mut posts: Vec<Post> = (1..=5).map(post).collect();
    posts[4].outcome = Outcome::Unknown;
    let history: Vec<Shown> = (1..=5).map(shown).collect();
    Evidence {
        posts,
        hangs: vec![hang(0, 3..11)],
        dark_doors: vec![hang(0, 1..5)],
        untold: Vec::new(),
        restores: Vec::new(),
        unexpected: Vec::new(),
        sessions: vec![session(0, None, 1..=3), session(3, Some(3), 4..=5)],
        arrivals: vec![Arrival {
            phone: 0,
            room: 0,
            last: 5,
        }],
        readings: vec![Reading {
            room: 0,
            page: vec![shown(3), shown(2)],
            at: at(40),
        }],
        departures: vec![Departure {
            room: 0,
            gateway: 0,
            left: at(10),
            last_heard: Some(at(9)),
            ended: Some(at(10)),
            watched_until: at(12),
            bye: Some(Bye::Removed),
        }],
        returns: vec![Return {
            room: "lodge".to_owned(),
            left: at(20),
            posted: Some(id(51)),
            is_listed: Some(true),
            ended: None,
        }],
        answered: of_a_landlord(),
        lodges: vec![lodge(0, &[]), lodge(1, &[50, 51])],
        rows: vec![history.clone()],
        history: vec![history],
        positions: vec![position(1, 1, "a"), position(5, 1, "a"), position(5, 2, "b")],
        foreign_commits: Vec::new(),
        missing_between: Vec::new(),
        memory: vec![MemorySample {
            process: "gateway".to_owned(),
            kib: 1_000,
        }],
        dead_letters: 0,
        poison: 0,
        left_in_log: 0,
    }
}

/// The invariants that are found broken after `change`.
fn broken(change: impl FnOnce(&mut Evidence)) -> BTreeSet<Invariant> {
    let mut evidence = healthy();
    change(&mut evidence);
    judge(&evidence, &BOUNDS).into_iter().map(|violation| violation.invariant).collect()
}

/// Changes history and the database alike.
fn rewrite(evidence: &mut Evidence, change: impl Fn(&mut Vec<Shown>)) {
    change(&mut evidence.history[0]);
    change(&mut evidence.rows[0]);
}

/// Gives the messages at two places each other's seq.
fn swap(history: &mut [Shown], one: usize, other: usize) {
    history.swap(one, other);
    for (seq, shown) in (1..).zip(history) {
        shown.seq = seq;
    }
}

#[test]
fn a_healthy_run_is_found_healthy() {
    assert_eq!(judge(&healthy(), &BOUNDS), []);
    // An unknown outcome may as well have come to nothing.
    let without = broken(|evidence| {
        rewrite(evidence, |history| {
            let _ = history.pop();
        });
        evidence.sessions[1].heard.pop();
        evidence.arrivals[0].last = 4;
    });
    assert_eq!(without, BTreeSet::new());
}

/// The same after a restore: what stood at 4 and 5 is gone, and others stand there.
fn restored() -> Evidence {
    let mut evidence = healthy();
    evidence.restores = vec![Restore {
        from: at(200),
        until: at(210),
        undone: [id(4), id(5)].into(),
        lost: [id(4), id(5)].into(),
    }];
    let after = |number: u32| Post {
        sent: at(220),
        settled: at(221),
        ..post(number)
    };
    evidence.posts.extend([after(6), after(7)]);
    let place = |seq, number| Shown { seq, ..shown(number) };
    rewrite(&mut evidence, |history| history.splice(3.., [place(4, 6), place(5, 7)]).for_each(drop));
    evidence.sessions[1].bye = Some(Bye::HistoryChanged);
    evidence.sessions.push(Session {
        resumed_epoch: Some(7),
        epoch: 8,
        reset: Some(3),
        heard: [(4, 6), (5, 7)]
            .map(|(seq, number)| Heard {
                shown: place(seq, number),
                cursor: seq,
                at: at(230),
            })
            .into(),
        opened: at(211),
        ..session(3, Some(5), 4..=5)
    });
    evidence
}

#[test]
fn a_restore_takes_what_it_takes_and_is_told_to_everybody() {
    assert_eq!(judge(&restored(), &BOUNDS), []);
    let found = |change: fn(&mut Evidence)| {
        let mut evidence = restored();
        change(&mut evidence);
        judge(&evidence, &BOUNDS).into_iter().map(|violation| violation.invariant).collect::<BTreeSet<_>>()
    };
    let of = |invariant| BTreeSet::from([invariant]);
    // What was in the accept log, or accepted afterwards, must be there.
    assert_eq!(found(|evidence| assert!(evidence.restores[0].lost.remove(&id(4)))), of(Invariant::Kept));
    assert_eq!(found(|evidence| assert!(evidence.restores[0].undone.remove(&id(5)))), of(Invariant::NoGhosts));
    // A phone goes on as if nothing had happened, or is not told at all.
    assert_eq!(found(|evidence| evidence.sessions[2].reset = None), of(Invariant::Contiguous));
    assert_eq!(found(|evidence| drop(evidence.sessions.pop())), of(Invariant::Contiguous));
    // And is reset, or told of a new history, without one.
    assert!(found(|evidence| evidence.restores.clear()).is_superset(&[Invariant::Kept, Invariant::TrueReasons].into()));
    assert_eq!(found(|evidence| evidence.sessions[0].reset = Some(3)), of(Invariant::Contiguous));
}

#[test]
fn a_lost_message_is_found() {
    let found = broken(|evidence| {
        rewrite(evidence, |history| {
            history.remove(1);
        });
    });
    assert!(found.is_superset(&[Invariant::Kept, Invariant::Dense].into()), "{found:?}");
    let other_id = broken(|evidence| rewrite(evidence, |history| history[1].id = id(99)));
    assert!(other_id.contains(&Invariant::Kept), "{other_id:?}");
}

#[test]
fn a_doubled_message_is_found() {
    let again = broken(|evidence| rewrite(evidence, |history| history.push(Shown { seq: 6, ..shown(2) })));
    assert!(again.is_superset(&[Invariant::Once, Invariant::Converges].into()), "{again:?}");
    let under_another_id = broken(|evidence| {
        let double = Shown {
            seq: 6,
            id: id(99),
            text: text(5),
        };
        rewrite(evidence, |history| history.push(double));
    });
    assert!(under_another_id.contains(&Invariant::Converges), "{under_another_id:?}");
}

#[test]
fn a_hole_in_the_numbers_is_found() {
    let found = broken(|evidence| rewrite(evidence, |history| history[4].seq = 7));
    assert!(found.contains(&Invariant::Dense), "{found:?}");
}

#[test]
fn a_wrong_order_is_found_by_the_clock_and_by_the_numbers() {
    let found = broken(|evidence| rewrite(evidence, |history| swap(history, 1, 2)));
    assert!(found.is_superset(&[Invariant::HappensBefore, Invariant::SenderOrder].into()), "{found:?}");
    // Of two senders only the clock can tell.
    let of_two = broken(|evidence| {
        evidence.posts[2].sender = 1;
        rewrite(evidence, |history| swap(history, 1, 2));
    });
    assert!(
        of_two.contains(&Invariant::HappensBefore) && !of_two.contains(&Invariant::SenderOrder),
        "{of_two:?}"
    );
    // And of two at the same time nobody can.
    let at_once = broken(|evidence| {
        evidence.posts[2].sender = 1;
        evidence.posts[2].sent = evidence.posts[1].sent;
        evidence.sessions.clear();
        evidence.readings.clear();
        rewrite(evidence, |history| swap(history, 1, 2));
    });
    assert_eq!(at_once, BTreeSet::new());
}

#[test]
fn history_that_changed_behind_a_reader_is_found() {
    let found = broken(|evidence| evidence.readings[0].page[0].id = id(99));
    assert_eq!(found, [Invariant::Unchanging].into());
    let hole = broken(|evidence| evidence.readings[0].page = vec![shown(4), shown(2)]);
    assert_eq!(hole, [Invariant::Unchanging].into());
}

#[test]
fn a_stream_with_a_hole_a_double_or_a_false_start_is_found() {
    let only = [Invariant::Contiguous].into();
    assert_eq!(
        broken(|evidence| {
            evidence.sessions[0].heard.remove(1);
        }),
        only
    );
    assert_eq!(broken(|evidence| evidence.sessions[0].heard.push(heard(3))), only);
    assert_eq!(broken(|evidence| evidence.sessions[1].ready = 2), only);
    assert_eq!(broken(|evidence| evidence.sessions[1].heard[0].cursor = 3), only);
    assert_eq!(broken(|evidence| evidence.arrivals[0].last = 4), only);
    // Saying so is no excuse for it.
    assert_eq!(broken(|evidence| evidence.sessions[1].reset = Some(3)), only);
}

#[test]
fn what_was_heard_and_is_not_in_history_is_found() {
    let found = broken(|evidence| evidence.sessions[0].heard[1].shown.text = text(99));
    assert_eq!(found, [Invariant::NoGhosts].into());
    let beyond = broken(|evidence| evidence.sessions[1].heard.push(heard(6)));
    assert!(beyond.contains(&Invariant::NoGhosts), "{beyond:?}");
}

#[test]
fn a_refused_message_that_is_there_is_found() {
    assert_eq!(broken(|evidence| evidence.posts[4].outcome = Outcome::Refused), [Invariant::Converges].into());
}

#[test]
fn what_the_rig_saw_on_the_way_is_judged() {
    assert_eq!(broken(|evidence| evidence.missing_between.push(id(2))), [Invariant::LogKeeps].into());
    assert_eq!(broken(|evidence| evidence.positions.push(position(4, 2, "b"))), [Invariant::OnlyForward].into());
    assert_eq!(broken(|evidence| evidence.positions.push(position(6, 1, "a"))), [Invariant::OnlyForward].into());
    assert_eq!(broken(|evidence| evidence.positions.push(position(6, 2, "a"))), [Invariant::OneOwner].into());
    let foreign = |evidence: &mut Evidence| evidence.foreign_commits.push("a at fence 2".to_owned());
    assert_eq!(broken(foreign), [Invariant::OneOwner].into());
    assert_eq!(broken(|evidence| evidence.memory[0].kib = 1_001), [Invariant::MemoryBounded].into());
}

#[test]
fn a_post_that_hangs_or_is_answered_out_of_contract_is_found() {
    let only = [Invariant::Demand].into();
    assert_eq!(broken(|evidence| evidence.hangs.push(hang(0, 20..26))), only);
    // As long as is allowed, and no longer.
    assert_eq!(broken(|evidence| evidence.hangs.push(hang(0, 20..25))), BTreeSet::new());
    assert_eq!(broken(|evidence| evidence.hangs[0].gateway = 1), only);
    assert_eq!(broken(|evidence| evidence.dark_doors[0].until = at(2)), only);
    assert_eq!(broken(|evidence| evidence.unexpected.push("500".to_owned())), only);
}

#[test]
fn an_account_that_does_not_balance_is_found() {
    let only = [Invariant::Balanced].into();
    assert_eq!(broken(|evidence| evidence.dead_letters = 1), only);
    assert_eq!(broken(|evidence| evidence.left_in_log = 1), only);
    assert_eq!(
        broken(|evidence| {
            let _ = evidence.rows[0].pop();
        }),
        only
    );
    assert_eq!(
        broken(|evidence| {
            evidence.posts.remove(4);
        }),
        only
    );
}

#[test]
fn whoever_hears_a_room_after_leaving_it_is_found() {
    let only = [Invariant::LeftIsLeft].into();
    assert_eq!(broken(|evidence| evidence.departures[0].last_heard = Some(at(12))), only);
    assert_eq!(broken(|evidence| evidence.departures[0].ended = Some(at(12))), only);
    assert_eq!(broken(|evidence| evidence.departures[0].ended = None), only);
    let held_back = |evidence: &mut Evidence| {
        evidence.departures[0].ended = Some(at(12));
        evidence.dark_doors.push(hang(0, 10..12));
    };
    assert_eq!(broken(held_back), [].into());
    let untold = |evidence: &mut Evidence| {
        evidence.departures[0].ended = None;
        evidence.untold.push(hang(0, 10..12));
    };
    assert_eq!(broken(untold), [].into());
}

#[test]
fn a_forged_line_is_found() {
    let found = broken(|evidence| evidence.sessions[0].strange.push("event: bye".to_owned()));
    assert_eq!(found, [Invariant::NoForgery].into());
}

#[test]
fn an_answer_that_is_not_true_is_found() {
    let only = [Invariant::TrueAnswers].into();
    // Each of them the other way round.
    for (place, status) in [
        (0, 200),
        (1, 409),
        (2, 201),
        (3, 404),
        (4, 204),
        (5, 204),
        (7, 404),
        (8, 404),
    ] {
        let found = broken(|evidence| evidence.answered[place].status = status);
        assert!(found.contains(&Invariant::TrueAnswers), "{place}: {found:?}");
    }
    assert_eq!(broken(|evidence| evidence.answered[7].status = 500), only);
}

#[test]
fn what_was_taken_for_a_room_and_is_not_in_it_is_found() {
    let only = [Invariant::Kept].into();
    let elsewhere = |evidence: &mut Evidence| {
        evidence.lodges[1].messages.remove(0);
        evidence.lodges[0].messages.push(id(50));
    };
    assert_eq!(broken(elsewhere), only);
    assert_eq!(broken(|evidence| evidence.lodges[1].messages.push(id(50))), only);
    // It stays there when the room is deleted.
    assert_eq!(broken(|evidence| evidence.answered.push(answered(Deed::Delete, 204))), BTreeSet::new());
}

#[test]
fn whoever_comes_back_and_is_not_in_is_found() {
    let only = [Invariant::TrueAnswers].into();
    assert_eq!(broken(|evidence| evidence.returns[0].is_listed = Some(false)), only);
    assert_eq!(broken(|evidence| evidence.returns[0].ended = Some(Bye::Removed)), only);
    assert_eq!(broken(|evidence| evidence.returns[0].posted = Some(id(99))), only);
    assert_eq!(broken(|evidence| evidence.returns[0].is_listed = None), BTreeSet::new());
    assert_eq!(broken(|evidence| evidence.returns[0].ended = Some(Bye::Shutdown)), BTreeSet::new());
}

#[test]
fn a_stream_that_ends_for_a_false_reason_is_found() {
    let only = [Invariant::TrueReasons].into();
    for bye in [Bye::Removed, Bye::Revoked, Bye::Other] {
        assert_eq!(broken(|evidence| evidence.sessions[0].bye = Some(bye)), only);
    }
    assert_eq!(broken(|evidence| evidence.sessions[0].bye = Some(Bye::Shutdown)), BTreeSet::new());
    assert_eq!(broken(|evidence| evidence.departures[0].bye = Some(Bye::Revoked)), only);
}
