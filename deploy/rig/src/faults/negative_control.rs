//! F16: an installation that breaks a promise on purpose. If the oracle does not find the loss, the other rows prove nothing.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::disk::DiskCondition;
use crate::failure::Result;
use crate::fault_run::FaultRun;

/// How long a sync takes: messages of this time are acknowledged and not on disk when the power fails.
const SLOW_MS: u64 = 1_500;
/// How long messages are accepted before the power fails.
const ACCEPTING: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_millis(3_500);

/// Redis syncs once a second, on a slow disk, and loses its power while no worker has stored yet what it holds.
///
/// Redis comes back with the durable setting, since the worker refuses to work with it otherwise.
pub(super) async fn lose_on_purpose(run: &mut FaultRun, count: usize) -> Result<()> {
    let mut taken = 0;
    for _ in 0..count {
        run.stack.redis.configure("appendfsync", "everysec").await?;
        for worker in run.stack.workers() {
            worker.kill()?;
        }
        if let Some(disk) = &run.stack.redis_disk {
            disk.set(DiskCondition {
                slow_ms: SLOW_MS,
                ..DiskCondition::default()
            })?;
        }
        sleep(run.rng.random_range(ACCEPTING)).await;
        run.record_injection();
        taken += run.stack.cut_power_of_redis()?;
        run.stack.recover().await?;
    }
    run.notes.push(format!("power cuts took {taken} bytes"));
    Ok(())
}
