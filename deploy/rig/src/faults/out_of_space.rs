//! F9: no space is left, on disk or in Redis's memory.

use std::time::Duration;

use tokio::time::sleep;

use crate::api_client::ApiClient;
use crate::disk::DiskCondition;
use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::fault_run::FaultRun;
use crate::http_response::HttpResponse;
use crate::restartable_process::ProcessHandle;

/// How much Redis may still grow while no worker runs.
const SPARE_KIB: u64 = 2 * 1024;
/// How long it may take until posts are refused; more than the spare memory divided by what is posted a second.
const FULL_WITHIN: Duration = Duration::from_mins(1);
/// How long the shortage lasts.
const SHORTAGE: Duration = Duration::from_secs(5);
/// How much the memory of a service may grow in that time and still count as flat, in KiB: what it varies by anyway.
const FLAT_KIB: u64 = 4 * 1024;
/// How long recovery may take.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);
/// A room for probes, so that they do not count as traffic.
const PROBED_ROOM: &str = "probe";

/// Both shortages, one after the other.
pub(super) async fn shortages(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        fill_disk(run).await?;
        fill_redis(run).await?;
    }
    Ok(())
}

/// The workers' disk takes no more bytes. Posts are accepted, and are stored when it does again.
async fn fill_disk(run: &mut FaultRun) -> Result<()> {
    let Some(disk) = run.stack.worker_disk.clone() else {
        return Ok(());
    };
    run.record_injection();
    disk.set(DiskCondition {
        is_full: true,
        ..DiskCondition::default()
    })?;
    let services: Vec<ProcessHandle> = run.stack.workers().map(|worker| worker.process.handle()).collect();
    demand_flat_memory(run, &services).await;
    disk.set(DiskCondition::default())?;
    demand_recovery(run, "the disk has space again").await
}

/// Redis is at `maxmemory` while no worker runs. Posts get 503, memory stays, and a worker that starts makes space.
async fn fill_redis(run: &mut FaultRun) -> Result<()> {
    for worker in run.stack.workers() {
        worker.kill()?;
    }
    let limit_kib = run.stack.redis.used_memory_kib().await? + SPARE_KIB;
    run.stack.redis.configure("maxmemory", &format!("{limit_kib}kb")).await?;
    run.record_injection();
    let prober = run.traffic.reader().clone();
    eventually(FULL_WITHIN, "posts are refused", async || {
        let response = post_probe(&prober).await?;
        response.expect(503).map(drop)
    })
    .await?;
    let services: Vec<ProcessHandle> = run.stack.gateways.iter().map(|gateway| gateway.process.handle()).collect();
    demand_flat_memory(run, &services).await;
    let used = run.stack.redis.used_memory_kib().await?;
    run.demand(used < limit_kib + SPARE_KIB, || format!("Redis uses {used} KiB with maxmemory {limit_kib} KiB"));
    for worker in run.stack.workers() {
        worker.start()?;
    }
    let recovered = demand_recovery(run, "the worker is back and Redis is at maxmemory").await;
    // Whatever came of it, the next round begins with space.
    run.stack.redis.configure("maxmemory", "0").await?;
    recovered
}

/// Lets the shortage last, and demands that the memory of `services` stays flat meanwhile.
async fn demand_flat_memory(run: &mut FaultRun, services: &[ProcessHandle]) {
    let memory = || services.iter().map(|service| service.resident_kib().unwrap_or(0));
    let before: Vec<u64> = memory().collect();
    sleep(SHORTAGE).await;
    let grown = memory().zip(before).map(|(after, before)| after.saturating_sub(before)).max().unwrap_or(0);
    run.notes.push(format!("{grown} KiB more in {} s of shortage", SHORTAGE.as_secs()));
    run.demand(grown <= FLAT_KIB, || format!("a service grew by {grown} KiB in {SHORTAGE:?} of shortage"));
}

/// Demands that messages are stored and accepted again within the time.
async fn demand_recovery(run: &mut FaultRun, when: &str) -> Result<()> {
    let prober = run.traffic.reader().clone();
    let mut database = run.stack.database().await?;
    let before = database.count_messages().await?;
    let began = run.traffic.now();
    let recovered = eventually(RECOVERED_WITHIN, "it recovers", async || {
        post_probe(&prober).await?.expect(204)?;
        if database.count_messages().await? > before {
            Ok(())
        } else {
            Err(Failure::new("nothing is stored"))
        }
    })
    .await;
    let time = run.traffic.now().saturating_sub(began);
    run.demand(recovered.is_ok(), || format!("no recovery within {RECOVERED_WITHIN:?} when {when}"));
    run.notes.push(format!("recovered after {:.1} s", time.as_secs_f64()));
    database.close().await
}

async fn post_probe(prober: &ApiClient) -> Result<HttpResponse> {
    if prober.get(&format!("/chat/{PROBED_ROOM}")).await?.status() == 404 {
        prober.create_room(PROBED_ROOM).await?;
    }
    prober.try_post(PROBED_ROOM, "is there space?", None).await
}
