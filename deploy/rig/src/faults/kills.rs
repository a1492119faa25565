//! Processes that die or hang.

use std::time::Duration;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use tokio::time::sleep;

use crate::evidence::Hang;
use crate::field::Field;
use crate::{Failure, Health, Result, eventually};

/// Time between two kills.
const BETWEEN: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_millis(900);
/// How long a server stays away. It needs some time to come back anyway.
const AWAY: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(500);
/// How much longer a sync of a worker takes when it is to be killed inside a commit.
const SLOW_COMMIT_MS: u64 = 30;
/// How long it may take until messages are stored again.
const STORING_WITHIN: Duration = Duration::from_secs(30);
/// How long a worker is paused: much longer than its place in Redis lasts.
const PAUSED: std::ops::Range<Duration> = Duration::from_millis(2_300)..Duration::from_secs(4);
/// How long a gateway is paused: around the second for which it trusts what it knows, and longer.
const ASLEEP: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_millis(3_500);

/// F1. The one who is killed comes back at once, as under a supervisor.
pub(super) async fn workers(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(field.rng.random_range(BETWEEN)).await;
        let number = field.rng.random_range(0..16);
        field.strike();
        let worker = field.stack.worker_at(number);
        worker.kill()?;
        worker.start()?;
    }
    Ok(())
}

/// F2.
pub(super) async fn gateways(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(field.rng.random_range(BETWEEN)).await;
        let number = field.rng.random_range(0..field.stack.gateways.len());
        field.strike();
        let gateway = &mut field.stack.gateways[number];
        gateway.kill()?;
        gateway.start()?;
    }
    Ok(())
}

/// F3. Every other time it loses, as in a power cut, what no sync has made certain.
pub(super) async fn redis(field: &mut Field, count: usize) -> Result<()> {
    let mut taken = 0;
    for number in 0..count {
        sleep(field.rng.random_range(BETWEEN)).await;
        field.strike();
        if number % 2 == 0 {
            field.stack.redis.kill()?;
        } else {
            taken += field.stack.cut_power_of_redis()?;
        }
        sleep(field.rng.random_range(AWAY)).await;
        field.stack.redis.restart().await?;
    }
    field.notes.push(format!("power cuts took {taken} bytes"));
    Ok(())
}

/// F4: Postgres itself, or the worker, on a disk so slow that it is nearly always in the middle of a commit. Each time
/// the database must be whole.
pub(super) async fn database(field: &mut Field, count: usize) -> Result<()> {
    if let Some(disk) = &field.stack.worker_disk {
        disk.set(Health {
            slow_ms: SLOW_COMMIT_MS,
            ..Health::default()
        })?;
    }
    for _ in 0..count {
        wait_until_storing(field).await?;
        sleep(field.rng.random_range(BETWEEN)).await;
        field.strike();
        let away = field.rng.random_range(AWAY);
        match &mut field.stack.postgres {
            Some(postgres) => {
                postgres.kill()?;
                sleep(away).await;
                postgres.restart().await?;
            }
            None => {
                for worker in field.stack.workers() {
                    worker.kill()?;
                    worker.start()?;
                }
            }
        }
        let mut database = field.stack.database().await?;
        let whole = database.check_integrity().await;
        database.close().await?;
        field.demand(whole.is_ok(), || whole.err().map(|failure| failure.to_string()).unwrap_or_default());
    }
    Ok(())
}

/// Waits until somebody stores messages.
async fn wait_until_storing(field: &mut Field) -> Result<()> {
    let mut database = field.stack.database().await?;
    let before = database.count_messages().await?;
    eventually(STORING_WITHIN, "messages are stored", async || {
        if database.count_messages().await? > before {
            Ok(())
        } else {
            Err(Failure::new("nothing yet"))
        }
    })
    .await?;
    database.close().await
}

/// F5. What the sleeper wanted to commit must not be committed: the oracle would find it doubled or in the wrong place.
pub(super) async fn pauses(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(field.rng.random_range(BETWEEN)).await;
        let (number, pause) = (field.rng.random_range(0..16), field.rng.random_range(PAUSED));
        field.strike();
        field.stack.worker_at(number).service.pause()?;
        sleep(pause).await;
        field.stack.worker_at(number).service.resume()?;
    }
    Ok(())
}

/// F20. What the sleeper knew of rooms, members and sessions is old when it wakes up: it must ask before it answers.
pub(super) async fn sleeping_gateways(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(field.rng.random_range(BETWEEN)).await;
        let (number, pause) = (field.rng.random_range(0..field.stack.gateways.len()), field.rng.random_range(ASLEEP));
        field.strike();
        let from = field.traffic.now();
        field.stack.gateways[number].service.pause()?;
        sleep(pause).await;
        field.stack.gateways[number].service.resume()?;
        let until = field.traffic.now();
        field.dark_doors.push(Hang {
            gateway: number,
            from,
            until,
        });
    }
    Ok(())
}

/// F6.
pub(super) async fn everything(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(field.rng.random_range(BETWEEN) * 3).await;
        field.strike();
        let mut order: Vec<Part> = (0..field.stack.gateways.len()).map(Part::Gateway).collect();
        order.extend((0..field.stack.workers().count()).map(Part::Worker));
        order.extend([Part::Redis, Part::Postgres]);
        order.shuffle(&mut field.rng);
        for part in &order {
            part.kill(field)?;
        }
        order.shuffle(&mut field.rng);
        for part in &order {
            part.start(field).await?;
        }
        field.stack.mend().await?;
    }
    Ok(())
}

/// One process of the stack.
#[derive(Debug, Clone, Copy)]
enum Part {
    Gateway(usize),
    Worker(usize),
    Redis,
    Postgres,
}

impl Part {
    fn kill(self, field: &mut Field) -> Result<()> {
        match self {
            Self::Gateway(number) => field.stack.gateways[number].kill(),
            Self::Worker(number) => field.stack.worker_at(number).kill(),
            Self::Redis => field.stack.redis.kill(),
            Self::Postgres => field.stack.postgres.as_mut().map_or(Ok(()), crate::PostgresServer::kill),
        }
    }

    async fn start(self, field: &mut Field) -> Result<()> {
        match self {
            Self::Gateway(number) => field.stack.gateways[number].start(),
            Self::Worker(number) => field.stack.worker_at(number).start(),
            Self::Redis => field.stack.redis.restart().await,
            Self::Postgres => match &mut field.stack.postgres {
                Some(postgres) => postgres.restart().await,
                None => Ok(()),
            },
        }
    }
}
