//! Where faults happen: a stack under traffic, watched by an auditor, and the judgement at the end.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auditor::{Auditor, Findings};
use crate::evidence::{Evidence, Hang, Restore, Shown};
use crate::oracle::{Bounds, Invariant, Violation, judge};
use crate::stack::Builder;
use crate::{Explain as _, Failure, Plan, Result, Stack, Traffic, eventually};

/// How long everything accepted may take until it is stored, once all faults are over.
const STORED_WITHIN: Duration = Duration::from_mins(1);
/// How long a phone may take to have everything once it is stored.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// A stack under traffic.
pub struct Field {
    /// The processes.
    pub stack: Stack,
    /// The clients.
    pub traffic: Traffic,
    /// Decides when and where the next fault strikes.
    pub rng: StdRng,
    /// When faults struck.
    pub strikes: Vec<Duration>,
    /// When workers were stopped cleanly, or joined.
    pub handovers: Vec<Duration>,
    /// When clients of a gateway were kept in the dark on purpose.
    pub dark_doors: Vec<Hang>,
    /// When a gateway could not be told who may still read.
    pub untold: Vec<Hang>,
    /// When the database was put back to a copy.
    pub restores: Vec<Restore>,
    /// Held by the auditor while it looks, and by whoever must be alone with the database.
    pub audits: Arc<Mutex<()>>,
    /// What the fault itself demands and did not get.
    pub demands: Vec<Violation>,
    /// Entries put into the accept log that can never be stored.
    pub poison: i64,
    /// Facts for the last column of the table.
    pub notes: Vec<String>,
    seed: u64,
    stop: CancellationToken,
    auditor: JoinHandle<Findings>,
}

/// What a run came to.
pub struct Outcome {
    /// Everything that was seen.
    pub evidence: Evidence,
    /// Every broken promise.
    pub violations: Vec<Violation>,
    /// When faults struck.
    pub strikes: Vec<Duration>,
    /// When workers were stopped cleanly, or joined.
    pub handovers: Vec<Duration>,
    /// Facts for the last column of the table.
    pub notes: Vec<String>,
    /// Where all of it was written to, if a promise was broken.
    pub dump: Option<PathBuf>,
}

impl Field {
    /// Starts the stack and lets traffic begin.
    pub async fn open(builder: Builder, plan: Plan) -> Result<Self> {
        // Pings so often that a phone soon knows a dead stream from a silent one.
        let mut stack = builder.gateway("STREAM_HEARTBEAT_S", "2").start().await?;
        let mut database = stack.database().await?;
        database.watch_positions().await?;
        database.close().await?;
        let traffic = Traffic::start(&stack, plan, SEEN_WITHIN).await?;
        let stop = CancellationToken::new();
        let audits = Arc::<Mutex<()>>::default();
        let auditor = Auditor::new(&mut stack, Arc::clone(traffic.book()), Arc::clone(&audits));
        let auditor = tokio::spawn(auditor.run(stop.clone()));
        Ok(Self {
            stack,
            traffic,
            rng: StdRng::seed_from_u64(plan.seed),
            strikes: Vec::new(),
            handovers: Vec::new(),
            dark_doors: Vec::new(),
            untold: Vec::new(),
            restores: Vec::new(),
            audits,
            demands: Vec::new(),
            poison: 0,
            notes: Vec::new(),
            seed: plan.seed,
            stop,
            auditor,
        })
    }

    /// Notes that a fault strikes now.
    pub fn strike(&mut self) {
        self.strikes.push(self.traffic.now());
    }

    /// Notes that workers stop cleanly, or join, from now on.
    pub fn hand_over(&mut self) {
        self.handovers.push(self.traffic.now());
    }

    /// Notes that a demand of the fault was not met.
    pub fn demand(&mut self, is_met: bool, sentence: impl FnOnce() -> String) {
        if !is_met {
            self.demands.push(Violation::new(Invariant::Demand, sentence()));
        }
    }

    /// Ends all faults, lets everything arrive, and judges.
    pub async fn conclude(mut self, bounds: &Bounds) -> Result<Outcome> {
        self.stack.mend().await?;
        self.traffic.quiet().await?;
        let stored = self.wait_stored().await;
        self.stop.cancel();
        let findings = self.auditor.await.explain(|| "the auditor".to_owned())?;

        let rooms = self.traffic.rooms();
        let mut database = self.stack.database().await?;
        let mut rows = Vec::new();
        for room in &rooms {
            rows.push(database.messages(room).await?);
        }
        let mut demands = self.demands;
        if let Err(failure) = database.check_integrity().await {
            demands.push(Violation::new(Invariant::Demand, failure.to_string()));
        }
        let reader = self.traffic.reader().clone();
        let heads = rows.iter().map(|rows| rows.last().map_or(0, |shown| shown.seq)).collect();
        let mut evidence = self.traffic.finish(heads).await?;
        for room in &rooms {
            evidence.history.push(reader.whole_history(room).await?.iter().filter_map(Shown::read).collect());
        }
        evidence.rows = rows;
        evidence.positions = database.positions().await?;
        evidence.lodges = database.lodges(["lodge-", "inn-"]).await?;
        let (answers, returns) = (evidence.answered.len(), evidence.returns.len());
        let mut notes = self.notes;
        notes.push(format!("{answers} answers to landlords, {returns} returns"));
        if let Some((commits, foreign)) = database.foreign_commits().await? {
            notes.push(format!("{commits} commits to partitions, {} of them foreign", foreign.len()));
            evidence.foreign_commits = foreign;
        }
        evidence.dead_letters = database.dead_letters().await?;
        database.close().await?;
        evidence.poison = self.poison;
        evidence.dark_doors = self.dark_doors;
        evidence.untold = self.untold;
        evidence.restores = self.restores;
        evidence.left_in_log = stored.err().unwrap_or(0);
        evidence.missing_between = findings.missing;
        evidence.memory = findings.memory;
        let mut violations = judge(&evidence, bounds);
        violations.append(&mut demands);
        let dump = if violations.is_empty() {
            None
        } else {
            Some(dump(&self.stack, self.seed, &evidence, &violations)?)
        };
        notes.push(format!("audited {} times", findings.looks));
        Ok(Outcome {
            evidence,
            violations,
            strikes: self.strikes,
            handovers: self.handovers,
            notes,
            dump,
        })
    }

    /// Waits until nothing in the accept log lies above the stored cursors; else says how much does.
    async fn wait_stored(&self) -> std::result::Result<(), u64> {
        let mut left = 0;
        let waited = eventually(STORED_WITHIN, "everything accepted is stored", async || {
            left = unstored(&self.stack).await?;
            if left == 0 {
                Ok(())
            } else {
                Err(Failure::new(format!("{left} entries are not")))
            }
        });
        waited.await.map_err(|_| left.max(1))
    }
}

/// Entries of the accept log above the stored cursors.
async fn unstored(stack: &Stack) -> Result<u64> {
    let mut database = stack.database().await?;
    let positions = database.positions().await?;
    database.close().await?;
    // The last one of a partition is where it is now.
    let now = positions.into_iter().map(|position| (position.partition, position.cursor)).collect();
    stack.accept_log().entries_above(&now).await
}

/// Writes down everything that helps to find out what went wrong, in a directory of its own that stays.
fn dump(stack: &Stack, seed: u64, evidence: &Evidence, violations: &[Violation]) -> Result<PathBuf> {
    let directory = tempfile::Builder::new().prefix(&format!("roomcast-seed-{seed}-")).tempdir()?.keep();
    let mut text = String::new();
    for violation in violations {
        writeln!(text, "{violation}")?;
    }
    for post in &evidence.posts {
        writeln!(text, "{post:?}")?;
    }
    for session in &evidence.sessions {
        writeln!(text, "{session:?}")?;
    }
    for answered in &evidence.answered {
        writeln!(text, "{answered:?}")?;
    }
    for back in &evidence.returns {
        writeln!(text, "{back:?}")?;
    }
    for position in &evidence.positions {
        writeln!(text, "{position:?}")?;
    }
    for (room, history) in evidence.history.iter().enumerate() {
        for shown in history {
            writeln!(text, "room {room}: {shown:?}")?;
        }
    }
    fs::write(directory.join("evidence.txt"), text)?;
    for entry in fs::read_dir(stack.directory())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), directory.join(entry.file_name()))?;
        }
    }
    Ok(directory)
}
