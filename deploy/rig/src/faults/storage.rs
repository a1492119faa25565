//! F9: no room left, on disk or in Redis's memory.

use std::time::Duration;

use tokio::time::sleep;

use crate::field::Field;
use crate::service::ProcessCell;
use crate::{App, Failure, Health, Result, eventually};

/// How much Redis may still take when no worker is there.
const ROOM_KIB: u64 = 2 * 1024;
/// How long it may take until posts are refused; more than the room divided by what is posted.
const FULL_WITHIN: Duration = Duration::from_mins(1);
/// How long the shortage lasts.
const SHORTAGE: Duration = Duration::from_secs(5);
/// How much the memory of a service may grow in that time and still be called flat, in KiB: what it varies by anyway.
const FLAT_KIB: u64 = 4 * 1024;
/// How long recovery may take.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);

/// Both shortages, one after the other.
pub(super) async fn shortage(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        full_disk(field).await?;
        full_redis(field).await?;
    }
    Ok(())
}

/// The workers' disk takes nothing more. Posts are accepted, and appear when it does again.
async fn full_disk(field: &mut Field) -> Result<()> {
    let Some(disk) = field.stack.worker_disk.clone() else {
        return Ok(());
    };
    field.strike();
    disk.set(Health {
        is_full: true,
        ..Health::default()
    })?;
    let services: Vec<ProcessCell> = field.stack.workers().map(|worker| worker.service.cell()).collect();
    stays_flat(field, &services).await;
    disk.set(Health::default())?;
    recovers(field, "the disk has room again").await
}

/// Redis is at `maxmemory` while no worker runs. Posts get 503, memory stays, and a worker that comes makes room.
async fn full_redis(field: &mut Field) -> Result<()> {
    for worker in field.stack.workers() {
        worker.kill()?;
    }
    let limit_kib = field.stack.redis.used_memory_kib().await? + ROOM_KIB;
    field.stack.redis.configure("maxmemory", &format!("{limit_kib}kb")).await?;
    field.strike();
    let prober = field.traffic.reader().clone();
    eventually(FULL_WITHIN, "posts are refused", async || {
        let answer = post(&prober).await?;
        answer.expect(503).map(drop)
    })
    .await?;
    let services: Vec<ProcessCell> = field.stack.gateways.iter().map(|gateway| gateway.service.cell()).collect();
    stays_flat(field, &services).await;
    let used = field.stack.redis.used_memory_kib().await?;
    field.demand(used < limit_kib + ROOM_KIB, || format!("Redis uses {used} KiB with maxmemory {limit_kib} KiB"));
    for worker in field.stack.workers() {
        worker.start()?;
    }
    let recovered = recovers(field, "the worker is back and Redis is at maxmemory").await;
    // Whatever came of it, the next round begins with room.
    field.stack.redis.configure("maxmemory", "0").await?;
    recovered
}

/// Lets the shortage last, and demands that the memory of `services` stays as it is meanwhile.
async fn stays_flat(field: &mut Field, services: &[ProcessCell]) {
    let weights = || services.iter().map(|service| service.resident_kib().unwrap_or(0));
    let before: Vec<u64> = weights().collect();
    sleep(SHORTAGE).await;
    let grown = weights().zip(before).map(|(now, before)| now.saturating_sub(before)).max().unwrap_or(0);
    field.notes.push(format!("{grown} KiB more in {} s of shortage", SHORTAGE.as_secs()));
    field.demand(grown <= FLAT_KIB, || format!("a service grew by {grown} KiB in {SHORTAGE:?} of shortage"));
}

/// Demands that messages are stored and accepted again within the time.
async fn recovers(field: &mut Field, when: &str) -> Result<()> {
    let prober = field.traffic.reader().clone();
    let mut database = field.stack.database().await?;
    let before = database.count_messages().await?;
    let began = field.traffic.now();
    let recovered = eventually(RECOVERED_WITHIN, "it recovers", async || {
        post(&prober).await?.expect(204)?;
        if database.count_messages().await? > before {
            Ok(())
        } else {
            Err(Failure::new("nothing is stored"))
        }
    })
    .await;
    let time = field.traffic.now().saturating_sub(began);
    field.demand(recovered.is_ok(), || format!("no recovery within {RECOVERED_WITHIN:?} when {when}"));
    field.notes.push(format!("recovered after {:.1} s", time.as_secs_f64()));
    database.close().await
}

/// Posts to a room of its own, so that it does not count as traffic.
async fn post(prober: &App) -> Result<crate::Answer> {
    if prober.get("/chat/probe").await?.status() == 404 {
        prober.create_room("probe").await?;
    }
    prober.try_post("probe", "is there room?", None).await
}
