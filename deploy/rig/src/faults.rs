//! The matrix of faults: what strikes, how often, and what must come of it.
//!
//! Each fault is a row of a table ([`MATRIX`]) whose function strikes a [`Field`] so many times and returns; the field then
//! ends all faults, lets everything arrive and has the oracle judge. What a fault demands beside the invariants is checked
//! by its function, or by the run when it needs what the clients saw (`Demand`).

mod aborts;
mod control;
mod kills;
mod links;
mod matrix;
mod readers;
mod restore;
mod scale;
mod storage;
mod storm;
mod topologies;

use std::time::Duration;

use futures_util::future::LocalBoxFuture;

pub use self::matrix::MATRIX;
use crate::field::{Field, Outcome};
use crate::oracle::Bounds;
use crate::report::{Row, percentiles, shown_after, shown_around};
use crate::stack::{Backend, Builder};
use crate::{Failure, Plan, Result};

/// What "bounded" and "at once" mean in the matrix. Longer than what is promised, since the clients share the machine with
/// everything they look at; the row says what the longest really took.
const BOUNDS: Bounds = Bounds {
    // One second is promised.
    removal: Duration::from_millis(1_500),
    memory_kib: 400 * 1024,
    // Five seconds are promised.
    post: Duration::from_millis(5_500),
};

/// What one run takes beside its strikes: starting everything, registering, letting everything arrive, judging.
const AROUND: Duration = Duration::from_secs(20);

/// One line of the matrix.
pub struct Fault {
    /// Its name there.
    pub code: &'static str,
    /// What strikes, in a few words.
    pub title: &'static str,
    /// How often it must strike for the full matrix.
    pub demanded: usize,
    /// How long one strike takes, about.
    each: Duration,
    /// What the stack needs for it.
    needs: fn(Builder) -> Builder,
    /// The traffic it needs, from the usual one and the share of the demanded count.
    load: fn(Plan, f64) -> Plan,
    /// Strikes so many times.
    strike: Strike,
    /// What it demands of what the clients saw.
    demand: Demand,
}

type Strike = for<'a> fn(&'a mut Field, usize) -> LocalBoxFuture<'a, Result<()>>;

/// What a fault demands of what the clients saw, beside the invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Nothing.
    Nothing,
    /// The longest silence of a room after 99 strikes in 100 is at most this.
    Takeover(Duration),
    /// From the acknowledgement of any message until somebody was shown it, it takes at most this.
    Shown(Duration),
    /// The same for 99 clean changes of the workers in 100.
    HandOver(Duration),
    /// Something is lost, and found to be.
    Loss,
}

/// The fault that is called `code`.
pub fn find(code: &str) -> Result<&'static Fault> {
    let found = MATRIX.iter().find(|fault| fault.code.eq_ignore_ascii_case(code.trim()));
    found.ok_or_else(|| Failure::new(format!("there is no fault {code}")))
}

impl Fault {
    /// About how long a run takes at `scale` of the demanded count.
    #[must_use]
    pub fn planned(&self, scale: f64) -> Duration {
        AROUND + self.each.mul_f64(as_f64(scaled(self.demanded, scale)))
    }

    /// Strikes `count` times.
    pub async fn strike(&self, field: &mut Field, count: usize) -> Result<()> {
        (self.strike)(field, count).await
    }

    /// Strikes the demanded number of times `scale`, and judges.
    pub async fn run(&self, backend: Backend, plan: Plan, scale: f64) -> Result<Row> {
        let plan = (self.load)(plan, scale);
        let mut field = Field::open((self.needs)(matrix::stack()).backend(backend), plan).await?;
        let began = field.traffic.now();
        self.strike(&mut field, scaled(self.demanded, scale)).await?;
        let (time, acknowledged) = (field.traffic.now().saturating_sub(began), field.traffic.acknowledged());
        let rate = as_f64(acknowledged) / time.as_secs_f64().max(0.001);
        field.notes.insert(0, format!("{rate:.0} acknowledged/s"));
        let outcome = field.conclude(&BOUNDS).await?;
        let mut row = Row::of(self, backend, plan.seed, &outcome);
        if let Some(dump) = &outcome.dump {
            if self.demand == Demand::Loss {
                // What had to be found needs no looking into.
                std::fs::remove_dir_all(dump)?;
            } else {
                row.notes.push(format!("evidence in {}", dump.display()));
            }
        }
        self.judge(&mut row, &outcome);
        Ok(row)
    }

    /// Adds to `row` what the clients saw, and what that breaks.
    fn judge(&self, row: &mut Row, outcome: &Outcome) {
        let mut delays = shown_after(&outcome.evidence);
        delays.sort_unstable();
        let slowest = delays.last().copied();
        if let Some(((_, p99), slowest)) = percentiles(delays).zip(slowest) {
            row.notes
                .push(format!("shown after p99 {} ms, at most {} ms", p99.as_millis(), slowest.as_millis()));
        }
        match self.demand {
            Demand::Nothing => {}
            Demand::Takeover(at_most) => row.demand("the takeover's p99", row.takeover.map(|(_, p99)| p99), at_most),
            Demand::Shown(at_most) => row.demand("the longest way to a stream", slowest, at_most),
            Demand::HandOver(at_most) => {
                let handovers = percentiles(shown_around(&outcome.evidence, &outcome.handovers));
                if let Some((p50, p99)) = handovers {
                    row.notes.push(format!("hand-over p50 {} ms, p99 {} ms", p50.as_millis(), p99.as_millis()));
                }
                row.demand("the hand-over's p99", handovers.map(|(_, p99)| p99), at_most);
            }
            Demand::Loss => row.turn_round(),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are far below 2^52, and a scale is positive"
)]
fn scaled(demanded: usize, scale: f64) -> usize {
    ((demanded as f64 * scale).ceil() as usize).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
