//! One fault of the matrix: running it, and judging the times that clients saw.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use time::OffsetDateTime;

use crate::evidence::Post;
use crate::failure::Result;
use crate::fault_run::{FaultRun, RunOutcome};
use crate::measures::{percentiles, shown_after, shown_around, silences, slowest_responses};
use crate::oracle::{Bounds, Invariant};
use crate::report::Row;
use crate::stack::{Backend, Stack, StackBuilder};
use crate::traffic::TrafficPlan;

/// Gateways and workers of the matrix.
const GATEWAYS: usize = 2;
const WORKERS: usize = 3;

/// What "bounded" and "at once" mean in the matrix. The bounds are longer than what is promised, since the clients share
/// the machine with everything they measure; the row says how long the slowest really took.
const BOUNDS: Bounds = Bounds {
    // One second is promised.
    removal: Duration::from_millis(1_500),
    memory_kib: 400 * 1024,
    // Five seconds are promised.
    post: Duration::from_millis(5_500),
};

/// What one run takes beside its injections: starting everything, registering, letting everything arrive, judging.
const OVERHEAD: Duration = Duration::from_secs(20);

/// One line of the matrix.
pub struct Fault {
    /// Its code there.
    pub code: &'static str,
    /// What happens, in a few words.
    pub title: &'static str,
    /// How often it must be injected for the full matrix.
    pub trials_required: usize,
    /// How long one injection takes, about.
    pub(super) each: Duration,
    /// What the stack needs for it.
    pub(super) needs: fn(StackBuilder) -> StackBuilder,
    /// The traffic it needs, from the usual one and the share of the required count.
    pub(super) load: fn(TrafficPlan, f64) -> TrafficPlan,
    /// Injects it so many times.
    pub(super) inject: Inject,
    /// The bound of the times that clients saw.
    pub(super) time_bound: TimeBound,
}

type Inject = for<'a> fn(&'a mut FaultRun, usize) -> LocalBoxFuture<'a, Result<()>>;

/// The bound of the times that clients saw, beside the invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeBound {
    /// Nothing.
    Nothing,
    /// The longest silence of a room after 99 injections in 100 is at most this.
    Silence(Duration),
    /// From the acknowledgement of any message until somebody was shown it, it takes at most this.
    Shown(Duration),
    /// From the acknowledgement of any message until somebody was shown it, 99 of 100 clean changes of workers take at most this.
    Handover(Duration),
    /// Something is lost, and the oracle finds it.
    Loss,
}

impl Fault {
    /// About how long a run takes at `scale` of the required count.
    #[must_use]
    pub fn planned(&self, scale: f64) -> Duration {
        OVERHEAD + self.each.mul_f64(as_f64(scaled(self.trials_required, scale)))
    }

    /// Injects it `count` times.
    pub async fn inject(&self, run: &mut FaultRun, count: usize) -> Result<()> {
        (self.inject)(run, count).await
    }

    /// Injects it `scale` times the required number of times, and judges.
    pub async fn run(&self, backend: Backend, plan: TrafficPlan, scale: f64) -> Result<Row> {
        let plan = (self.load)(plan, scale);
        let stack = Stack::builder().without_limits().gateways(GATEWAYS).workers(WORKERS);
        let mut run = FaultRun::start((self.needs)(stack).backend(backend), plan).await?;
        let began = run.traffic.now();
        self.inject(&mut run, scaled(self.trials_required, scale)).await?;
        let (time, acknowledged) = (run.traffic.now().saturating_sub(began), run.traffic.acknowledged());
        let rate = as_f64(acknowledged) / time.as_secs_f64().max(0.001);
        run.notes.insert(0, format!("{rate:.0} acknowledged/s"));
        let outcome = run.finish(&BOUNDS).await?;
        let mut row = self.row(backend, plan.seed, &outcome);
        if let Some(dump) = &outcome.dump {
            if self.time_bound == TimeBound::Loss {
                // The loss had to be found, so its evidence is not needed.
                std::fs::remove_dir_all(dump)?;
            } else {
                row.notes.push(format!("evidence in {}", dump.display()));
            }
        }
        self.judge_times(&mut row, &outcome);
        Ok(row)
    }

    /// Counts what `outcome` holds.
    fn row(&self, backend: Backend, seed: u64, outcome: &RunOutcome) -> Row {
        let broken = |invariants: &[Invariant]| {
            outcome.violations.iter().filter(|violation| invariants.contains(&violation.invariant)).count()
        };
        let posts = &outcome.evidence.posts;
        let is_acknowledged = |post: &&Post| post.outcome.is_acknowledged();
        let store = match backend {
            Backend::Sqlite => "SQLite",
            Backend::Postgres => "Postgres",
        };
        Row {
            date: OffsetDateTime::now_utc().date().to_string(),
            code: self.code.to_owned(),
            title: self.title.to_owned(),
            store: store.to_owned(),
            seed,
            trials: outcome.injections.len(),
            trials_required: self.trials_required,
            acknowledged: posts.iter().filter(is_acknowledged).count(),
            lost: broken(&[Invariant::Kept]),
            doubled: broken(&[Invariant::Once, Invariant::Converges]),
            reordered: broken(&[Invariant::HappensBefore, Invariant::SenderOrder]),
            unknown: posts.iter().map(|post| u64::from(post.unknown_tries)).sum(),
            silence: percentiles(silences(&outcome.evidence, &outcome.injections, Duration::MAX)),
            violations: outcome.violations.iter().map(ToString::to_string).collect(),
            notes: [outcome.notes.clone(), slowest_responses(&outcome.evidence)].concat(),
            is_control: false,
        }
    }

    /// Adds to `row` the times that clients saw, and whether they break the bound.
    fn judge_times(&self, row: &mut Row, outcome: &RunOutcome) {
        let mut delays = shown_after(&outcome.evidence, &(Duration::ZERO..Duration::MAX));
        delays.sort_unstable();
        let slowest = delays.last().copied();
        if let Some(((_, p99), slowest)) = percentiles(delays).zip(slowest) {
            row.notes
                .push(format!("shown after p99 {} ms, at most {} ms", p99.as_millis(), slowest.as_millis()));
        }
        match self.time_bound {
            TimeBound::Nothing => {}
            TimeBound::Silence(at_most) => {
                row.demand("the p99 of the silence", row.silence.map(|(_, p99)| p99), at_most);
            }
            TimeBound::Shown(at_most) => row.demand("the longest way to a stream", slowest, at_most),
            TimeBound::Handover(at_most) => {
                let handovers = percentiles(shown_around(&outcome.evidence, &outcome.handovers));
                if let Some((p50, p99)) = handovers {
                    row.notes.push(format!("hand-over p50 {} ms, p99 {} ms", p50.as_millis(), p99.as_millis()));
                }
                row.demand("the hand-over's p99", handovers.map(|(_, p99)| p99), at_most);
            }
            TimeBound::Loss => row.invert(),
        }
    }
}

/// `scale` of a required number, at least 1.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are far below 2^52, and a scale is positive"
)]
pub(super) fn scaled(required: usize, scale: f64) -> usize {
    ((required as f64 * scale).ceil() as usize).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
