//! A database that goes back in time.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use rand::RngExt as _;
use tokio::time::sleep;
use uuid::Uuid;

use crate::evidence::Restore;
use crate::field::Field;
use crate::{Failure, Result, Service, eventually};

/// How long traffic goes on before the copy is made.
const BEFORE: Duration = Duration::from_secs(2);
/// How long it goes on after that: what is stored in this time is lost.
const LOST: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(4);
/// How long services may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take until every gateway serves the new epoch.
const NEW_EPOCH_WITHIN: Duration = Duration::from_secs(15);
/// How long traffic goes on afterwards: longer than any phone sleeps, so that each comes back in between.
const AFTERWARDS: Duration = Duration::from_secs(6);

/// F19: everything is stopped, a copy of the database is put in its place, and everything is started again.
pub(super) async fn restores(field: &mut Field, count: usize) -> Result<()> {
    let mut lost = 0;
    for _ in 0..count {
        sleep(BEFORE).await;
        let before = epochs(field).await?;
        let backup = field.stack.back_up().await?;
        sleep(field.rng.random_range(LOST)).await;
        field.strike();
        stop(field).await?;
        let mut restore = Restore {
            from: field.traffic.now(),
            ..Restore::default()
        };
        {
            let _alone = field.audits.lock().await;
            let stored = ids(field).await?;
            field.stack.restore(&backup).await?;
            let copied = ids(field).await?;
            restore.undone = stored.difference(&copied).copied().collect();
        }
        let logged = field.stack.accept_log().ids().await?;
        restore.lost = restore.undone.difference(&logged).copied().collect();
        lost += restore.lost.len();
        field.stack.mend().await?;
        eventually(NEW_EPOCH_WITHIN, "every gateway serves a new epoch", async || {
            let now = epochs(field).await?;
            let is_new = now.iter().all(|epoch| *epoch == now[0] && !before.contains(epoch));
            is_new.then_some(()).ok_or_else(|| Failure::new(format!("{now:?} after {before:?}")))
        })
        .await?;
        restore.until = field.traffic.now();
        field.restores.push(restore);
        sleep(AFTERWARDS).await;
    }
    field.notes.push(format!("{lost} messages were lost with what was stored after the copies"));
    field.demand(lost > 0, || "nothing was lost: the copies were as new as what they replaced".to_owned());
    Ok(())
}

/// Stops the gateways and then the workers, as their operators do.
async fn stop(field: &mut Field) -> Result<()> {
    let stop = async |service: &mut Service| service.stop(STOP_WITHIN).await;
    try_join_all(field.stack.gateways.iter_mut().map(|gateway| stop(&mut gateway.service))).await?;
    try_join_all(field.stack.workers().map(|worker| stop(&mut worker.service))).await?;
    Ok(())
}

/// What is stored.
async fn ids(field: &Field) -> Result<HashSet<Uuid>> {
    let mut database = field.stack.database().await?;
    let ids = database.all_ids().await?;
    database.close().await?;
    Ok(ids)
}

/// The epoch that each gateway serves.
async fn epochs(field: &Field) -> Result<Vec<u64>> {
    let room = &field.traffic.rooms()[0];
    let doors = field.stack.doors();
    let streams = doors.iter().map(async |door| {
        let reader = field.traffic.reader().moved_to(door)?;
        reader.stream(room).open().await?.ready().epoch()
    });
    try_join_all(streams).await
}
