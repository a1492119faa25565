//! The matrix of faults: what strikes, how often, and what must come of it.
//!
//! Each fault is a function over a [`Field`]: it strikes so many times and returns; the field then ends all faults, lets
//! everything arrive and has the oracle judge. What a fault demands beside the invariants it checks itself.

mod control;
mod crowd;
mod kills;
mod links;
mod scale;
mod storage;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::field::Field;
use crate::oracle::Bounds;
use crate::report::{Row, percentiles, shown_after};
use crate::stack::{Backend, Builder};
use crate::{Failure, Plan, Result, Stack};

/// Gateways and workers of the matrix.
const GATEWAYS: usize = 2;
const WORKERS: usize = 3;
/// Workers where they come and go.
const SCALED_WORKERS: usize = 4;
/// Clients of a storm, and the messages a second that go on meanwhile.
const STORM_CLIENTS: usize = 5_000;
const STORM_PER_S: f64 = 40.0;

/// Demanded of 99 takeovers in 100.
const TAKEOVER_P99: Duration = Duration::from_secs(3);
/// Demanded of every message whose notification is lost: two seconds, and the time the commit and the way take anyway.
const SHOWN_WITHIN: Duration = Duration::from_millis(2_500);

/// What "bounded" and "at once" mean in the matrix.
const BOUNDS: Bounds = Bounds {
    // One second is promised; the rest is for a rig whose clients share the machine with everything else.
    removal: Duration::from_millis(1_500),
    memory_kib: 400 * 1024,
    // Five seconds are promised.
    post: Duration::from_millis(5_500),
};

/// One line of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// F1: a worker is killed.
    WorkerKilled,
    /// F2: a gateway is killed in the middle of posts and streams.
    GatewayKilled,
    /// F3: Redis is killed.
    RedisKilled,
    /// F4: the database is killed: Postgres itself, or the worker in the middle of an SQLite commit.
    DatabaseKilled,
    /// F5: a worker is paused for longer than its lease and wakes up.
    WorkerPaused,
    /// F6: everything is killed and started in any order.
    EverythingKilled,
    /// F7: links are cut, darkened and slowed.
    LinksCut,
    /// F8: the reply is lost after the append, and after the commit.
    RepliesLost,
    /// F9: the disk is full, and Redis at its memory limit.
    Shortage,
    /// F10: notifications are dropped.
    NotificationsDropped,
    /// F11: workers and gateways come and go.
    Scaling,
    /// F12: all streams are cut, and everybody comes back at once.
    Storm,
    /// F13: some readers read nothing.
    StoppedReaders,
    /// F14: what can never be stored is in the accept log.
    Poison,
    /// F15: clients break requests off at any byte.
    Aborts,
    /// F16: the control of the test, which must lose something.
    Control,
}

/// All of them, in the order of the matrix.
pub const ALL: [Fault; 16] = [
    Fault::WorkerKilled,
    Fault::GatewayKilled,
    Fault::RedisKilled,
    Fault::DatabaseKilled,
    Fault::WorkerPaused,
    Fault::EverythingKilled,
    Fault::LinksCut,
    Fault::RepliesLost,
    Fault::Shortage,
    Fault::NotificationsDropped,
    Fault::Scaling,
    Fault::Storm,
    Fault::StoppedReaders,
    Fault::Poison,
    Fault::Aborts,
    Fault::Control,
];

impl Fault {
    /// Its name in the matrix.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::WorkerKilled => "F1",
            Self::GatewayKilled => "F2",
            Self::RedisKilled => "F3",
            Self::DatabaseKilled => "F4",
            Self::WorkerPaused => "F5",
            Self::EverythingKilled => "F6",
            Self::LinksCut => "F7",
            Self::RepliesLost => "F8",
            Self::Shortage => "F9",
            Self::NotificationsDropped => "F10",
            Self::Scaling => "F11",
            Self::Storm => "F12",
            Self::StoppedReaders => "F13",
            Self::Poison => "F14",
            Self::Aborts => "F15",
            Self::Control => "F16",
        }
    }

    /// What strikes, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker kill -9",
            Self::GatewayKilled => "gateway kill -9",
            Self::RedisKilled => "Redis kill -9",
            Self::DatabaseKilled => "database kill -9",
            Self::WorkerPaused => "worker SIGSTOP",
            Self::EverythingKilled => "everything kill -9",
            Self::LinksCut => "links cut, dark, slow",
            Self::RepliesLost => "replies lost",
            Self::Shortage => "disk full, Redis full",
            Self::NotificationsDropped => "notifications dropped",
            Self::Scaling => "copies come and go",
            Self::Storm => "all streams cut at once",
            Self::StoppedReaders => "readers that read nothing",
            Self::Poison => "poison in the log",
            Self::Aborts => "requests broken off",
            Self::Control => "control: must lose",
        }
    }

    /// How often it must strike for the full matrix.
    #[must_use]
    pub fn demanded(self) -> usize {
        match self {
            Self::WorkerKilled | Self::GatewayKilled | Self::NotificationsDropped => 200,
            Self::RedisKilled | Self::DatabaseKilled | Self::LinksCut | Self::StoppedReaders => 100,
            Self::WorkerPaused => 50,
            Self::EverythingKilled => 30,
            Self::RepliesLost => 1_000,
            Self::Shortage | Self::Storm => 5,
            Self::Scaling => 20,
            Self::Poison => 60,
            Self::Aborts => 100_000,
            Self::Control => 3,
        }
    }

    /// The traffic it needs, where that is not `plan` itself.
    fn plan(self, plan: Plan, scale: f64) -> Plan {
        match self {
            // Every message goes to hundreds of streams: more of them would be a test of the machine.
            Self::Storm => Plan {
                steady_per_room: scaled(STORM_CLIENTS, scale) / plan.rooms,
                per_second: plan.per_second.min(STORM_PER_S),
                ..plan
            },
            _ => plan,
        }
    }

    /// What the stack needs for it.
    fn stack(self) -> Builder {
        let stack = Stack::builder().gateways(GATEWAYS).workers(WORKERS);
        match self {
            Self::LinksCut | Self::RepliesLost | Self::NotificationsDropped | Self::Storm => stack.links(),
            Self::RedisKilled | Self::DatabaseKilled | Self::Shortage | Self::Control => stack.disks(),
            Self::Scaling => stack.workers(SCALED_WORKERS),
            Self::WorkerKilled
            | Self::GatewayKilled
            | Self::WorkerPaused
            | Self::EverythingKilled
            | Self::StoppedReaders
            | Self::Poison
            | Self::Aborts => stack,
        }
    }

    /// Strikes `count` times.
    pub async fn strike(self, field: &mut Field, count: usize) -> Result<()> {
        match self {
            Self::WorkerKilled => kills::workers(field, count).await,
            Self::GatewayKilled => kills::gateways(field, count).await,
            Self::RedisKilled => kills::redis(field, count).await,
            Self::DatabaseKilled => kills::database(field, count).await,
            Self::WorkerPaused => kills::pauses(field, count).await,
            Self::EverythingKilled => kills::everything(field, count).await,
            Self::LinksCut => links::cuts(field, count).await,
            Self::RepliesLost => links::lost_replies(field, count).await,
            Self::Shortage => storage::shortage(field, count).await,
            Self::Scaling => scale::cycles(field, count).await,
            Self::Storm => crowd::storms(field, count).await,
            Self::StoppedReaders => crowd::stopped_readers(field, count).await,
            Self::Aborts => crowd::aborts(field, count).await,
            Self::Control => control::lose_on_purpose(field, count).await,
            Self::NotificationsDropped => links::dropped_notifications(field, count).await,
            Self::Poison => links::poison(field, count).await,
        }
    }
}

/// Lets `fault` strike the demanded number of times `scale`, and judges.
pub async fn run(fault: Fault, backend: Backend, plan: Plan, scale: f64) -> Result<Row> {
    let plan = fault.plan(plan, scale);
    let mut field = Field::open(fault.stack().backend(backend), plan).await?;
    let count = scaled(fault.demanded(), scale);
    let began = field.traffic.now();
    fault.strike(&mut field, count).await?;
    let (time, acknowledged) = (field.traffic.now().saturating_sub(began), field.traffic.acknowledged());
    field
        .notes
        .push(format!("{:.0} acknowledged/s", as_f64(acknowledged) / time.as_secs_f64().max(0.001)));
    let outcome = field.conclude(&BOUNDS).await?;
    let backend = match backend {
        Backend::Sqlite => "SQLite",
        Backend::Postgres => "Postgres",
    };
    let mut row = Row::of(&format!("{} {}", fault.code(), fault.title()), backend, plan.seed, &outcome);
    match outcome.dump {
        // What had to be found needs no looking into.
        Some(dump) if fault == Fault::Control => std::fs::remove_dir_all(dump)?,
        Some(dump) => row.notes.push(format!("evidence in {}", dump.display())),
        None => {}
    }
    let mut delays = shown_after(&outcome.evidence);
    delays.sort_unstable();
    let slowest = delays.last().copied();
    if let Some(((_, p99), slowest)) = percentiles(delays).zip(slowest) {
        row.notes
            .push(format!("shown after p99 {} ms, at most {} ms", p99.as_millis(), slowest.as_millis()));
    }
    match fault {
        Fault::Control => row.turn_round(),
        Fault::WorkerKilled => row.demand("the takeover's p99", row.takeover.map(|(_, p99)| p99), TAKEOVER_P99),
        Fault::NotificationsDropped => row.demand("the longest way to a stream", slowest, SHOWN_WITHIN),
        _ => {}
    }
    Ok(row)
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

impl FromStr for Fault {
    type Err = Failure;

    fn from_str(code: &str) -> Result<Self> {
        let found = ALL.into_iter().find(|fault| fault.code().eq_ignore_ascii_case(code.trim()));
        found.ok_or_else(|| Failure::new(format!("there is no fault {code}")))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
