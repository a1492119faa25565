//! One run of faults: a stack under seeded traffic, sampled while it goes on, and judged at the end.

mod dump;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::dump::dump;
use crate::database::Database;
use crate::eventually::eventually;
use crate::evidence::{EditedRoom, EntryKind, Evidence, GatewayInterval, LogEntry, Message, Restore};
use crate::failure::{Explain as _, Failure, Result};
use crate::oracle::{Bounds, Invariant, Violation, judge};
use crate::stack::{Stack, StackBuilder};
use crate::state_sampler::{SampledState, StateSampler};
use crate::traffic::{EDITED_ROOMS, RECREATED_ROOMS, REJOINED_ROOMS, Traffic, TrafficPlan};

/// How long it may take until everything accepted is stored, once all faults are over.
const STORED_WITHIN: Duration = Duration::from_mins(1);
/// How long gateways may take to connect to a Redis that is back.
const RECONNECTED_WITHIN: Duration = Duration::from_secs(3);
/// How long a subscriber may take to have everything once it is stored.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// A stack under traffic into which faults are injected.
pub struct FaultRun {
    /// The processes.
    pub stack: Stack,
    /// The clients.
    pub traffic: Traffic,
    /// Decides when and where the next fault is injected.
    pub rng: StdRng,
    /// When faults were injected.
    pub injections: Vec<Duration>,
    /// When workers were stopped cleanly, or joined.
    pub handovers: Vec<Duration>,
    /// When the run itself kept clients from reaching a gateway.
    pub unreachable: Vec<GatewayInterval>,
    /// When a gateway could not learn who may still read.
    pub unnotified: Vec<GatewayInterval>,
    /// When what gateways announce to each other could get lost.
    pub unannounced: Vec<Range<Duration>>,
    /// When the database was put back to a copy.
    pub restores: Vec<Restore>,
    /// Held by the sampler while it samples, and by a fault that must be alone with the database.
    pub sampling_lock: Arc<Mutex<()>>,
    /// What the fault itself demands and did not get.
    pub unmet_demands: Vec<Violation>,
    /// Entries put into the accept log that can never be stored.
    pub poison: i64,
    /// Facts for the notes of the row.
    pub notes: Vec<String>,
    seed: u64,
    stop: CancellationToken,
    sampler: JoinHandle<SampledState>,
}

/// The result of a run.
pub struct RunOutcome {
    /// Everything that was recorded.
    pub evidence: Evidence,
    /// Every broken promise.
    pub violations: Vec<Violation>,
    /// When faults were injected.
    pub injections: Vec<Duration>,
    /// When workers were stopped cleanly, or joined.
    pub handovers: Vec<Duration>,
    /// Facts for the notes of the row.
    pub notes: Vec<String>,
    /// Where evidence and logs were written to, if a promise was broken.
    pub dump: Option<PathBuf>,
}

impl FaultRun {
    /// Starts the stack and the traffic.
    pub async fn start(builder: StackBuilder, plan: TrafficPlan) -> Result<Self> {
        // Pings are so frequent that a subscriber soon distinguishes a dead stream from a silent one.
        let mut stack = builder.gateway("STREAM_HEARTBEAT_S", "2").start().await?;
        let mut database = stack.database().await?;
        database.watch_positions().await?;
        database.close().await?;
        let traffic = Traffic::start(&stack, plan, SEEN_WITHIN).await?;
        let stop = CancellationToken::new();
        let sampling_lock = Arc::<Mutex<()>>::default();
        let sampler = StateSampler::new(&mut stack, Arc::clone(traffic.recorder()), Arc::clone(&sampling_lock));
        let sampler = tokio::spawn(sampler.run(stop.clone()));
        Ok(Self {
            stack,
            traffic,
            rng: StdRng::seed_from_u64(plan.seed),
            injections: Vec::new(),
            handovers: Vec::new(),
            unreachable: Vec::new(),
            unnotified: Vec::new(),
            unannounced: Vec::new(),
            restores: Vec::new(),
            sampling_lock,
            unmet_demands: Vec::new(),
            poison: 0,
            notes: Vec::new(),
            seed: plan.seed,
            stop,
            sampler,
        })
    }

    /// Records that a fault is injected now.
    pub fn record_injection(&mut self) {
        self.injections.push(self.traffic.now());
    }

    /// Records that what gateways announced to each other since `from` could get lost, until a moment from now: gateways that
    /// were cut off from Redis connect anew.
    pub fn record_unannounced(&mut self, from: Duration) {
        self.unannounced.push(from..self.traffic.now() + RECONNECTED_WITHIN);
    }

    /// Records that workers stop cleanly, or join, from now on.
    pub fn record_handover(&mut self) {
        self.handovers.push(self.traffic.now());
    }

    /// Records a demand of the fault that was not met, unless `is_met`.
    pub fn demand(&mut self, is_met: bool, sentence: impl FnOnce() -> String) {
        if !is_met {
            self.unmet_demands.push(Violation::new(Invariant::Demand, sentence()));
        }
    }

    /// Ends all faults, waits until everything has arrived, and judges.
    pub async fn finish(mut self, bounds: &Bounds) -> Result<RunOutcome> {
        self.stack.recover().await?;
        self.traffic.stop_changes().await?;
        let stored = self.wait_stored().await;
        self.stop.cancel();
        let sampled = self.sampler.await.explain(|| "the state sampler".to_owned())?;

        let rooms = self.traffic.rooms();
        let mut database = self.stack.database().await?;
        let (rows, others) = read_rooms(&mut database, &rooms).await?;
        let mut unmet_demands = self.unmet_demands;
        if let Err(failure) = database.check_integrity().await {
            unmet_demands.push(Violation::new(Invariant::Demand, failure.to_string()));
        }
        let reader = self.traffic.reader().clone();
        let contents = read_edited_rooms(&mut database, &self.traffic).await?;
        let heads = rows.iter().zip(&others).map(head).collect();
        let log_heads = contents.iter().map(EditedRoom::head).collect();
        let edited_names = self.traffic.edited_rooms();
        let mut evidence = self.traffic.finish(heads, log_heads, database.existing_rooms().await?).await?;
        evidence.edited.contents = contents;
        (evidence.room_names, evidence.edited.names) = (rooms.clone(), edited_names);
        for room in &rooms {
            evidence.history.push(reader.whole_history(room).await?.iter().filter_map(Message::parse).collect());
        }
        evidence.rows = rows;
        evidence.others = others;
        evidence.room_members = database.room_members([EDITED_ROOMS, REJOINED_ROOMS]).await?;
        evidence.left_in_outbox = database.count_outbox().await?;
        evidence.positions = database.positions().await?;
        evidence.room_contents = database.room_contents([RECREATED_ROOMS, REJOINED_ROOMS]).await?;
        let mut notes = self.notes;
        notes.extend(summaries(&evidence));
        if let Some((commits, foreign)) = database.foreign_commits().await? {
            notes.push(format!("{commits} commits to partitions, {} of them foreign", foreign.len()));
            evidence.foreign_commits = foreign;
        }
        evidence.dead_letters = database.dead_letters().await?;
        database.close().await?;
        evidence.poison = self.poison;
        (evidence.unreachable, evidence.unnotified) = (self.unreachable, self.unnotified);
        (evidence.unannounced, evidence.restores) = (self.unannounced, self.restores);
        evidence.left_in_log = stored.err().unwrap_or(0);
        evidence.missing_during_run = sampled.missing;
        evidence.memory = sampled.memory;
        let mut violations = judge(&evidence, bounds);
        violations.append(&mut unmet_demands);
        let is_broken = !violations.is_empty();
        let dump = is_broken.then(|| dump(self.stack.directory(), self.seed, &evidence, &violations)).transpose()?;
        notes.push(format!("state sampled {} times", sampled.samples));
        Ok(RunOutcome {
            evidence,
            violations,
            injections: self.injections,
            handovers: self.handovers,
            notes,
            dump,
        })
    }

    /// Waits until no entry of the accept log lies above the stored cursors, and none waits in the outbox; otherwise returns how
    /// many of the former there are.
    async fn wait_stored(&self) -> std::result::Result<(), u64> {
        let mut left = None;
        let waited = eventually(STORED_WITHIN, "everything accepted is stored", async || {
            let waiting = unstored(&self.stack).await?;
            left = Some(waiting);
            let mut database = self.stack.database().await?;
            let in_outbox = database.count_outbox().await?;
            database.close().await?;
            if waiting == 0 && in_outbox == 0 {
                Ok(())
            } else {
                Err(Failure::new(format!("{waiting} entries are not, and {in_outbox} changes wait in the outbox")))
            }
        });
        waited.await.map_err(|_| left.unwrap_or(1))
    }
}

/// How much some clients did, as sentences.
fn summaries(evidence: &Evidence) -> [String; 4] {
    let (responses, rejoins) = (evidence.room_responses.len(), evidence.rejoins.len());
    let entries = evidence.room_members.iter().flat_map(|room| &room.log);
    let changes = entries.filter(|entry| matches!(entry.kind, EntryKind::Member { .. })).count();
    let unknown = evidence.membership_calls.iter().filter(|call| call.unknown_tries > 0).count();
    [
        format!("{responses} responses to room recreators, {rejoins} rejoins"),
        evidence.edited.summary(),
        evidence.user_streams.summary(),
        format!("{changes} joins and leaves in the logs, {unknown} calls of members without an answer at first"),
    ]
}

/// The messages of each room, and its other entries, from the database.
async fn read_rooms(database: &mut Database, rooms: &[String]) -> Result<(Vec<Vec<Message>>, Vec<Vec<LogEntry>>)> {
    let (mut rows, mut others) = (Vec::new(), Vec::new());
    for room in rooms {
        rows.push(database.messages(room).await?);
        others.push(database.other_entries(room).await?);
    }
    Ok((rows, others))
}

/// The last seq of a room with these messages and other entries.
fn head((messages, others): (&Vec<Message>, &Vec<LogEntry>)) -> i64 {
    let (message, other) = (messages.last().map(|message| message.seq), others.last().map(|entry| entry.seq));
    message.max(other).unwrap_or(0)
}

/// What the rooms of editors hold, by SQL and by the API.
async fn read_edited_rooms(database: &mut Database, traffic: &Traffic) -> Result<Vec<EditedRoom>> {
    let mut contents = Vec::new();
    for room in &traffic.edited_rooms() {
        let history = traffic.reader().whole_history(room).await?;
        contents.push(EditedRoom {
            history: history.iter().filter_map(|message| LogEntry::parse("message", message)).collect(),
            ..database.edited_room(room).await?
        });
    }
    Ok(contents)
}

/// Entries of the accept log above the stored cursors.
async fn unstored(stack: &Stack) -> Result<u64> {
    let mut database = stack.database().await?;
    let positions = database.positions().await?;
    database.close().await?;
    // The last position of a partition is the current one.
    let current = positions.into_iter().map(|position| (position.partition, position.cursor)).collect();
    stack.accept_log().entries_above(&current).await
}
