//! Kills and pauses processes.

use std::time::Duration;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use tokio::time::sleep;

use crate::disk::DiskCondition;
use crate::eventually::eventually;
use crate::evidence::GatewayInterval;
use crate::failure::{Failure, Result};
use crate::fault_run::FaultRun;
use crate::postgres_server::PostgresServer;

/// Time between two kills.
const BETWEEN: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_millis(900);
/// How long a server stays away. It needs some time to start anyway.
const AWAY: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(500);
/// How much longer a sync of a worker takes when it is to be killed inside a commit.
const SLOW_COMMIT_MS: u64 = 30;
/// How long it may take until messages are stored again.
const STORING_WITHIN: Duration = Duration::from_secs(30);
/// How long a worker is paused: much longer than its registration lasts.
const PAUSED: std::ops::Range<Duration> = Duration::from_millis(2_300)..Duration::from_secs(4);
/// How long a gateway is paused: around the second for which it trusts what it knows, and longer.
const GATEWAY_PAUSED: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_millis(3_500);

/// F1: a worker is killed and comes back at once, as under a supervisor.
pub(super) async fn workers(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(run.rng.random_range(BETWEEN)).await;
        let number = run.rng.random_range(0..16);
        run.record_injection();
        let worker = run.stack.worker_at(number);
        worker.kill()?;
        worker.start()?;
    }
    Ok(())
}

/// F2: a gateway is killed and comes back at once.
pub(super) async fn gateways(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(run.rng.random_range(BETWEEN)).await;
        let number = run.rng.random_range(0..run.stack.gateways.len());
        run.record_injection();
        let gateway = &mut run.stack.gateways[number];
        gateway.kill()?;
        gateway.start()?;
    }
    Ok(())
}

/// F3: Redis is killed. Every other time it also loses what was not synced to disk, as in a power cut.
pub(super) async fn redis(run: &mut FaultRun, count: usize) -> Result<()> {
    let mut taken = 0;
    for number in 0..count {
        sleep(run.rng.random_range(BETWEEN)).await;
        run.record_injection();
        let from = run.traffic.now();
        if number % 2 == 0 {
            run.stack.redis.kill()?;
        } else {
            taken += run.stack.cut_power_of_redis()?;
        }
        sleep(run.rng.random_range(AWAY)).await;
        run.stack.redis.restart().await?;
        run.record_unannounced(from);
    }
    run.notes.push(format!("power cuts took {taken} bytes"));
    Ok(())
}

/// F4: Postgres is killed, or with SQLite the workers, on a disk so slow that they are nearly always in the middle of a
/// commit. Each time the database must be whole.
pub(super) async fn database(run: &mut FaultRun, count: usize) -> Result<()> {
    if let Some(disk) = &run.stack.worker_disk {
        disk.set(DiskCondition {
            slow_ms: SLOW_COMMIT_MS,
            ..DiskCondition::default()
        })?;
    }
    for _ in 0..count {
        wait_until_storing(run).await?;
        sleep(run.rng.random_range(BETWEEN)).await;
        run.record_injection();
        let away = run.rng.random_range(AWAY);
        match &mut run.stack.postgres {
            Some(postgres) => {
                postgres.kill()?;
                sleep(away).await;
                postgres.restart().await?;
            }
            None => {
                for worker in run.stack.workers() {
                    worker.kill()?;
                    worker.start()?;
                }
            }
        }
        let mut database = run.stack.database().await?;
        let whole = database.check_integrity().await;
        database.close().await?;
        run.demand(whole.is_ok(), || whole.err().map(|failure| failure.to_string()).unwrap_or_default());
    }
    Ok(())
}

/// Waits until a worker stores messages.
async fn wait_until_storing(run: &mut FaultRun) -> Result<()> {
    let mut database = run.stack.database().await?;
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

/// F5: a worker is paused. What it was about to commit must not be committed: the oracle would find it doubled or at the
/// wrong position.
pub(super) async fn worker_pauses(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(run.rng.random_range(BETWEEN)).await;
        let (number, pause) = (run.rng.random_range(0..16), run.rng.random_range(PAUSED));
        run.record_injection();
        run.stack.worker_at(number).process.pause()?;
        sleep(pause).await;
        run.stack.worker_at(number).process.resume()?;
    }
    Ok(())
}

/// F20: a gateway is paused. What it knew of rooms, members and sessions is old when it goes on: it must check before it
/// answers.
pub(super) async fn gateway_pauses(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(run.rng.random_range(BETWEEN)).await;
        let (number, pause) = (run.rng.random_range(0..run.stack.gateways.len()), run.rng.random_range(GATEWAY_PAUSED));
        run.record_injection();
        let from = run.traffic.now();
        run.stack.gateways[number].process.pause()?;
        sleep(pause).await;
        run.stack.gateways[number].process.resume()?;
        let until = run.traffic.now();
        run.unreachable.push(GatewayInterval {
            gateway: number,
            from,
            until,
        });
        run.record_unannounced(from);
    }
    Ok(())
}

/// F6: everything is killed, and started again in any order.
pub(super) async fn everything(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(run.rng.random_range(BETWEEN) * 3).await;
        run.record_injection();
        let from = run.traffic.now();
        let mut order: Vec<Part> = (0..run.stack.gateways.len()).map(Part::Gateway).collect();
        order.extend((0..run.stack.workers().count()).map(Part::Worker));
        order.extend([Part::Redis, Part::Postgres]);
        order.shuffle(&mut run.rng);
        for part in &order {
            part.kill(run)?;
        }
        order.shuffle(&mut run.rng);
        for part in &order {
            part.start(run).await?;
        }
        run.stack.recover().await?;
        run.record_unannounced(from);
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
    fn kill(self, run: &mut FaultRun) -> Result<()> {
        match self {
            Self::Gateway(number) => run.stack.gateways[number].kill(),
            Self::Worker(number) => run.stack.worker_at(number).kill(),
            Self::Redis => run.stack.redis.kill(),
            Self::Postgres => run.stack.postgres.as_mut().map_or(Ok(()), PostgresServer::kill),
        }
    }

    async fn start(self, run: &mut FaultRun) -> Result<()> {
        match self {
            Self::Gateway(number) => run.stack.gateways[number].start(),
            Self::Worker(number) => run.stack.worker_at(number).start(),
            Self::Redis => run.stack.redis.restart().await,
            Self::Postgres => match &mut run.stack.postgres {
                Some(postgres) => postgres.restart().await,
                None => Ok(()),
            },
        }
    }
}
