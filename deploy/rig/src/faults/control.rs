//! F16: an installation that breaks a promise on purpose. If nobody finds the loss, the other rows prove nothing.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::field::Field;
use crate::{Health, Result};

/// How long a sync takes: messages of this time are acknowledged and not on disk when the power fails.
const SLOW_MS: u64 = 1_500;
/// How long messages are accepted before the power fails.
const ACCEPTING: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_millis(3_500);

/// Redis syncs once a second, on a slow disk, and loses its power while no worker has yet stored what it holds.
///
/// It comes back as it should always have been set, since the worker refuses to work with it otherwise.
pub(super) async fn lose_on_purpose(field: &mut Field, count: usize) -> Result<()> {
    let mut taken = 0;
    for _ in 0..count {
        field.stack.redis.configure("appendfsync", "everysec").await?;
        for worker in field.stack.workers() {
            worker.kill()?;
        }
        if let Some(disk) = &field.stack.redis_disk {
            disk.set(Health {
                slow_ms: SLOW_MS,
                ..Health::default()
            })?;
        }
        sleep(field.rng.random_range(ACCEPTING)).await;
        field.strike();
        taken += field.stack.cut_power_of_redis()?;
        field.stack.mend().await?;
    }
    field.notes.push(format!("power cuts took {taken} bytes"));
    Ok(())
}
