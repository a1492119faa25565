//! F19: the database is put back to an older copy of it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use rand::RngExt as _;
use tokio::time::sleep;
use uuid::Uuid;

use crate::eventually::eventually;
use crate::evidence::Restore;
use crate::failure::{Failure, Result};
use crate::fault_run::FaultRun;
use crate::restartable_process::RestartableProcess;

/// How long traffic goes on before the copy is made.
const BEFORE: Duration = Duration::from_secs(2);
/// How long it goes on after that: what is stored in this time is lost.
const LOST: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(4);
/// How long services may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take until every gateway serves the new epoch.
const NEW_EPOCH_WITHIN: Duration = Duration::from_secs(15);
/// How long traffic goes on afterwards: longer than any subscriber is offline, so that each comes back in between.
const AFTERWARDS: Duration = Duration::from_secs(6);

/// Stops everything, puts a copy of the database in its place, and starts everything again.
pub(super) async fn restores(run: &mut FaultRun, count: usize) -> Result<()> {
    let mut lost = 0;
    for _ in 0..count {
        sleep(BEFORE).await;
        let before = epochs(run).await?;
        let copied = run.traffic.now();
        let backup = run.stack.back_up().await?;
        sleep(run.rng.random_range(LOST)).await;
        run.record_injection();
        stop_services(run).await?;
        let mut restore = Restore {
            copied,
            from: run.traffic.now(),
            ..Restore::default()
        };
        {
            let _alone = run.sampling_lock.lock().await;
            let stored = stored_ids(run).await?;
            run.stack.restore(&backup).await?;
            let copied = stored_ids(run).await?;
            restore.undone = stored.difference(&copied).copied().collect();
        }
        let logged = run.stack.accept_log().ids().await?;
        restore.lost = restore.undone.difference(&logged).copied().collect();
        lost += restore.lost.len();
        run.stack.recover().await?;
        eventually(NEW_EPOCH_WITHIN, "every gateway serves a new epoch", async || {
            let current = epochs(run).await?;
            let is_new = current.iter().all(|epoch| *epoch == current[0] && !before.contains(epoch));
            is_new.then_some(()).ok_or_else(|| Failure::new(format!("{current:?} after {before:?}")))
        })
        .await?;
        restore.until = run.traffic.now();
        run.restores.push(restore);
        sleep(AFTERWARDS).await;
    }
    run.notes.push(format!("{lost} messages were lost with what was stored after the copies"));
    run.demand(lost > 0, || "nothing was lost: the copies were as new as what they replaced".to_owned());
    Ok(())
}

/// Stops the gateways and then the workers, as their operators do.
async fn stop_services(run: &mut FaultRun) -> Result<()> {
    let stop = async |process: &mut RestartableProcess| process.stop(STOP_WITHIN).await;
    try_join_all(run.stack.gateways.iter_mut().map(|gateway| stop(&mut gateway.process))).await?;
    try_join_all(run.stack.workers().map(|worker| stop(&mut worker.process))).await?;
    Ok(())
}

/// The ids of all stored messages.
async fn stored_ids(run: &FaultRun) -> Result<HashSet<Uuid>> {
    let mut database = run.stack.database().await?;
    let ids = database.all_ids().await?;
    database.close().await?;
    Ok(ids)
}

/// The epoch that each gateway serves.
async fn epochs(run: &FaultRun) -> Result<Vec<u64>> {
    let room = &run.traffic.rooms()[0];
    let urls = run.stack.gateway_urls();
    let streams = urls.iter().map(async |url| {
        let reader = run.traffic.reader().moved_to(url)?;
        reader.stream(room).open().await?.ready().epoch()
    });
    try_join_all(streams).await
}
