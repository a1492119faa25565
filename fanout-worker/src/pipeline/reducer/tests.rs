//! The reducer as a table: in this state, this event leads to these effects, this wait and this ownership.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use shared::domain::{Fence, LogEntryId, Partition};
use shared::storage::{Claim, Committed, Entry, EntryContent, PartitionBatch, Writers};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::decision::{Decision, Effect, Next, Report};
use super::super::event::{Event, Snapshot};
use super::State;
use crate::log_reader::BatchServers;
use crate::ownership::claimer::Claimed;
use crate::ownership::owned_partitions::RECLAIM_PAUSE;
use crate::ownership::{View, WorkerName};
use crate::persist::{MAX_ROWS, PartitionProgress, Persisted, StopReason};
use crate::publications::ReceiptRequests;

/// The name of a row, its state and event, when they meet, and what they lead to.
type Row = (&'static str, State, Event, Snapshot, &'static str);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn worker(number: u128) -> WorkerName {
    Uuid::from_u128(number).into()
}

fn me() -> WorkerName {
    worker(2)
}

/// The view of this worker beside `others`, so long `after` the start.
fn beside(others: &[u128], after: Duration) -> Snapshot {
    let now = *START + after;
    let living: Vec<WorkerName> = others.iter().map(|number| worker(*number)).chain([me()]).collect();
    Snapshot {
        now,
        view: View {
            me: me(),
            living: living.into(),
            asked_at: now,
            valid_until: now + Duration::from_secs(1),
        },
        is_stopping: false,
    }
}

/// This worker is the only one.
fn alone() -> Snapshot {
    beside(&[], Duration::ZERO)
}

/// An older worker lives too. With one writer it owns everything.
fn younger() -> Snapshot {
    beside(&[1], Duration::ZERO)
}

/// The registration of this worker has expired.
fn expired() -> Snapshot {
    let mut snapshot = alone();
    snapshot.view.valid_until = snapshot.now;
    snapshot
}

/// A stop was requested.
fn stopping() -> Snapshot {
    Snapshot {
        is_stopping: true,
        ..alone()
    }
}

fn claim(partition: u16) -> Claim {
    Claim {
        partition: Partition(partition),
        fence: Fence(1),
        cursor: LogEntryId::ZERO,
    }
}

/// A worker that owns these of two partitions.
fn owning(writers: Writers, partitions: &[u16]) -> State {
    let mut state = State::new(writers, 2);
    state.owned.add(partitions.iter().copied().map(claim));
    state
}

fn many(partitions: &[u16]) -> State {
    owning(Writers::Many, partitions)
}

fn one(partitions: &[u16]) -> State {
    owning(Writers::One, partitions)
}

/// A worker that owns partition 1 and lost partition 0 at the start.
fn with_loss() -> State {
    let mut state = many(&[0, 1]);
    state.owned.lose(&[Partition(0)], *START);
    state
}

/// `state` after these events.
fn after(mut state: State, events: impl IntoIterator<Item = Event>) -> State {
    for event in events {
        state.apply(event, &alone());
    }
    state
}

fn batch(partition: u16, entries: usize) -> PartitionBatch {
    let entry = |counter| Entry {
        log_entry_id: LogEntryId { ms: 1, counter },
        content: EntryContent::DeadLetter {
            reason: String::new(),
            entry: String::new(),
        },
    };
    PartitionBatch {
        claim: claim(partition),
        entries: (1..).map(entry).take(entries).collect(),
    }
}

fn read<const N: usize>(batches: [PartitionBatch; N]) -> Event {
    Event::Read {
        servers: BatchServers::default(),
        batches: batches.into(),
    }
}

/// One transaction, and one more entry.
fn large() -> Event {
    read([batch(0, MAX_ROWS + 1)])
}

/// A transaction that stored entries of `partitions` up to 1-7, and found that others are `lost`.
fn committed(partitions: &[u16], lost: &[u16], stopped_by: Option<StopReason>) -> Event {
    let upto = LogEntryId { ms: 1, counter: 7 };
    let progress = PartitionProgress {
        cursor: upto,
        last: upto,
    };
    Event::Committed {
        persisted: Persisted {
            stored: vec![Committed::default()],
            progress: partitions.iter().map(|partition| (Partition(*partition), progress)).collect(),
            lost: lost.iter().copied().map(Partition).collect(),
            stopped_by,
        },
        receipt_requests: ReceiptRequests::new(),
    }
}

fn claimed(owner: WorkerName, partitions: &[u16]) -> Event {
    Event::Claimed(Claimed {
        owner,
        claims: partitions.iter().copied().map(claim).collect(),
    })
}

fn fences(fences: &[(u16, i64)]) -> Event {
    Event::FencesPolled(fences.iter().map(|(partition, fence)| (Partition(*partition), Fence(*fence))).collect())
}

fn numbers(partitions: impl IntoIterator<Item = Partition>) -> String {
    partitions.into_iter().fold(String::new(), |mut text, partition| {
        write!(text, " {partition}").unwrap();
        text
    })
}

fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Assign(claims) => format!("assign{}", numbers(claims.iter().map(|claim| claim.partition))),
        Effect::Claim { partitions, owner } => {
            assert_eq!(*owner, me());
            format!("claim{}", numbers(partitions.iter().copied()))
        }
        Effect::ClaimNothing => "claim nothing".to_owned(),
        Effect::ForgetClaim => "forget claim".to_owned(),
        Effect::PollFences => "poll fences".to_owned(),
        Effect::Publish { publication, .. } => {
            let trimmable = publication.trimmable.iter().map(|(partition, _)| *partition);
            format!("publish {}, trim{}", publication.stored.len(), numbers(trimmable))
        }
        Effect::Rejoin => "rejoin".to_owned(),
        Effect::Report(Report::Owns {
            owned,
            claimed,
            given_up,
            ..
        }) => format!("report {owned} (+{claimed} -{given_up})"),
        Effect::Report(Report::ClaimedByAnother(count)) => format!("report {count} claimed by another"),
        Effect::Report(Report::ReaderFailed) => "report reader failed".to_owned(),
        Effect::Report(Report::StorageUnavailable) => "report storage unavailable".to_owned(),
    }
}

fn show_next(next: &Next) -> String {
    match next {
        Next::Input => "input".to_owned(),
        Next::Commit(batches) => {
            let batch = |batch: &PartitionBatch| format!(" {}:{}", batch.claim.partition, batch.entries.len());
            format!("commit{}", batches.iter().map(batch).collect::<String>())
        }
        Next::Pause => "pause".to_owned(),
        Next::Announce(partitions) => format!("announce{}", numbers(partitions.iter().copied())),
        Next::FinishPublishing => "finish publishing".to_owned(),
        Next::Leave => "leave".to_owned(),
        Next::CheckStorage => "check storage".to_owned(),
        Next::Exit => "exit".to_owned(),
    }
}

/// `effect; effect -> wait | owned partition@its cursor`
fn show(state: &State, Decision { effects, next }: &Decision) -> String {
    let effects: Vec<String> = effects.iter().map(show_effect).collect();
    let owned = state.owned.claims().map(|claim| format!(" {}@{}", claim.partition, claim.cursor));
    let shown = format!("{} -> {} |{}", effects.join("; "), show_next(next), owned.collect::<String>());
    shown.trim_start().to_owned()
}

fn check(rows: impl IntoIterator<Item = Row>) {
    for (name, mut state, event, snapshot, expected) in rows {
        let decision = state.apply(event, &snapshot);
        assert_eq!(show(&state, &decision), expected, "{name}");
    }
}

#[rustfmt::skip]
#[test]
fn claims_follow_the_assignment() {
    check([
        ("the only worker claims everything",
            many(&[]), Event::Started, alone(), "claim 0 1 -> input |"),
        ("a standby claims nothing",
            one(&[]), Event::Started, younger(), "claim nothing -> input |"),
        ("an unregistered worker claims nothing",
            many(&[]), Event::Started, expired(), "claim nothing -> input |"),
        ("a claim is added, read and announced",
            many(&[]), claimed(me(), &[0, 1]), alone(), "assign 0 1; report 2 (+2 -0) -> announce 0 1 | 0@0-0 1@0-0"),
        ("a claim under a former name is ignored",
            many(&[]), claimed(worker(9), &[0, 1]), alone(), "claim 0 1 -> input |"),
        ("a claim of what is assigned to another worker by now is ignored",
            one(&[]), claimed(me(), &[0, 1]), younger(), "claim nothing -> input |"),
        ("a claim that ends after the registration is ignored",
            many(&[]), claimed(me(), &[0, 1]), expired(), "claim nothing -> input |"),
        ("a claim that failed is repeated",
            many(&[]), claimed(me(), &[]), alone(), "claim 0 1 -> input |"),
        ("the rest is claimed after the announcement",
            many(&[0]), Event::Announced, alone(), "claim 1; poll fences -> input | 0@0-0"),
        ("what is assigned to another worker is given up",
            one(&[0, 1]), Event::ViewChanged, younger(), "assign; report 0 (+0 -2); claim nothing -> input |"),
        ("everything is given up when the registration expires",
            many(&[0, 1]), Event::ViewChanged, expired(), "assign; report 0 (+0 -2); claim nothing -> input |"),
        ("the same view changes nothing",
            many(&[0, 1]), Event::ViewChanged, alone(), "claim nothing; poll fences -> input | 0@0-0 1@0-0"),
    ]);
}

#[rustfmt::skip]
#[test]
fn lost_partitions_are_reclaimed_after_a_pause() {
    let early = RECLAIM_PAUSE / 2;
    check([
        ("a higher fence in SQL drops the partition",
            many(&[0, 1]), fences(&[(0, 2), (1, 1)]), alone(),
            "report 1 claimed by another; assign 1; claim nothing; poll fences -> input | 1@0-0"),
        ("fences of this worker change nothing",
            many(&[0, 1]), fences(&[(0, 1), (1, 1)]), alone(), "claim nothing; poll fences -> input | 0@0-0 1@0-0"),
        ("a poll without an answer changes nothing",
            many(&[0, 1]), fences(&[]), alone(), "claim nothing; poll fences -> input | 0@0-0 1@0-0"),
        ("a view that is too early reclaims nothing",
            with_loss(), Event::ViewChanged, beside(&[], early), "claim nothing; poll fences -> input | 1@0-0"),
        ("a view after the pause reclaims",
            with_loss(), Event::ViewChanged, beside(&[], RECLAIM_PAUSE), "claim 0; poll fences -> input | 1@0-0"),
        ("a reader that failed has everything dropped",
            many(&[0, 1]), Event::ReaderFailed, alone(), "report reader failed; assign; claim nothing -> input |"),
        ("a view after that claims everything anew",
            after(many(&[0, 1]), [Event::ReaderFailed]), Event::ViewChanged, beside(&[], RECLAIM_PAUSE),
            "claim 0 1 -> input |"),
    ]);
}

#[rustfmt::skip]
#[test]
fn entries_are_stored_only_by_the_owner() {
    check([
        ("entries begin a transaction",
            many(&[0, 1]), read([batch(0, 1), batch(1, 2)]), alone(), "-> commit 0:1 1:2 | 0@0-0 1@0-0"),
        ("entries of a partition that is not owned are dropped",
            many(&[1]), read([batch(0, 1), batch(1, 2)]), alone(), "-> commit 1:2 | 1@0-0"),
        ("a stop begins no transaction",
            many(&[0]), read([batch(0, 1)]), stopping(), "-> finish publishing | 0@0-0"),
        ("an expired registration begins no transaction",
            many(&[0]), read([batch(0, 1)]), expired(), "forget claim; assign; claim nothing -> input |"),
    ]);
}

#[rustfmt::skip]
#[test]
fn commits_are_published_in_their_order() {
    let full = || read([batch(0, MAX_ROWS)]);
    check([
        ("a commit moves the cursor and is published",
            after(many(&[0, 1]), [read([batch(0, 1)])]), committed(&[0], &[], None), alone(),
            "publish 1, trim 0; claim nothing; poll fences -> input | 0@1-7 1@0-0"),
        ("a publication is submitted before the next transaction begins",
            after(many(&[0, 1]), [large()]), committed(&[0], &[], None), alone(),
            "publish 1, trim 0 -> commit 0:1 | 0@1-7 1@0-0"),
        ("the only writer pauses after a full transaction",
            after(one(&[0, 1]), [large()]), committed(&[0], &[], None), alone(),
            "publish 1, trim 0 -> pause | 0@1-7 1@0-0"),
        ("the next transaction begins after the pause",
            after(one(&[0, 1]), [large(), committed(&[0], &[], None)]), Event::Paused, alone(),
            "-> commit 0:1 | 0@1-7 1@0-0"),
        ("the pause after the last transaction ends the batch",
            after(one(&[0, 1]), [full(), committed(&[0], &[], None)]), Event::Paused, alone(),
            "claim nothing; poll fences -> input | 0@1-7 1@0-0"),
        ("a partition that was lost is neither trimmed nor read on",
            after(many(&[0, 1]), [read([batch(0, 1), batch(1, 1)])]), committed(&[0, 1], &[0], None), alone(),
            "publish 1, trim 1; assign 1; claim nothing; poll fences -> input | 1@1-7"),
        ("the reader keeps a lost partition until the batch ends, whose rest skips it",
            after(many(&[0, 1]), [read([batch(0, MAX_ROWS + 1), batch(1, 1)])]), committed(&[], &[0], None), alone(),
            "publish 1, trim -> commit 1:1 | 1@0-0"),
        ("the end of that batch drops the lost partition",
            after(many(&[0, 1]), [read([batch(0, MAX_ROWS + 1), batch(1, 1)]), committed(&[], &[0], None)]),
            committed(&[1], &[], None), alone(),
            "publish 1, trim 1; assign 1; claim nothing; poll fences -> input | 1@1-7"),
    ]);
}

#[rustfmt::skip]
#[test]
fn worker_gives_up_between_two_transactions_only() {
    check([
        ("a stop leaves the rest of the batch",
            after(many(&[0, 1]), [large()]), committed(&[0], &[], None), stopping(),
            "publish 1, trim 0 -> finish publishing | 0@1-7 1@0-0"),
        ("an expired registration leaves the rest of the batch",
            after(many(&[0, 1]), [large()]), committed(&[0], &[], None), expired(),
            "publish 1, trim 0; forget claim; assign; claim nothing -> input |"),
        ("a stop during the pause leaves the rest of the batch",
            after(one(&[0, 1]), [large(), committed(&[0], &[], None)]), Event::Paused, stopping(),
            "-> finish publishing | 0@1-7 1@0-0"),
        ("storage that is away ends the batch with what was stored before",
            after(many(&[0, 1]), [large()]), committed(&[0], &[], Some(StopReason::StorageUnavailable)), alone(),
            "publish 1, trim 0; report storage unavailable -> finish publishing | 0@1-7 1@0-0"),
        ("a stop while storage fails ends the batch",
            after(many(&[0, 1]), [large()]), committed(&[], &[], Some(StopReason::Stopped)), alone(),
            "publish 1, trim -> finish publishing | 0@0-0 1@0-0"),
        ("claims that fail for too long mean that storage is away",
            many(&[0]), Event::ClaimsFail, alone(), "report storage unavailable -> finish publishing | 0@0-0"),
        ("an idle worker stops at once",
            many(&[0]), Event::StopRequested, alone(), "-> finish publishing | 0@0-0"),
    ]);
}

#[rustfmt::skip]
#[test]
fn worker_hands_over_and_comes_back() {
    let stopped = || after(many(&[0]), [Event::StopRequested]);
    let away = || after(many(&[0]), [Event::ClaimsFail]);
    let left = || after(away(), [Event::PublishingFinished, Event::Left]);
    check([
        ("everything is dropped once all is published",
            stopped(), Event::PublishingFinished, alone(), "forget claim; assign -> leave |"),
        ("a stopped worker exits once it has left",
            after(stopped(), [Event::PublishingFinished]), Event::Left, alone(), "-> exit |"),
        ("a worker without storage leaves, then waits for storage",
            after(away(), [Event::PublishingFinished]), Event::Left, alone(), "-> check storage |"),
        ("it goes on waiting while storage does not answer",
            left(), Event::StorageChecked { answers: false }, alone(), "-> check storage |"),
        ("it joins again when storage answers",
            left(), Event::StorageChecked { answers: true }, alone(), "rejoin; claim 0 1 -> input |"),
        ("a stop ends the wait for storage",
            left(), Event::StopRequested, alone(), "-> finish publishing |"),
    ]);
}
