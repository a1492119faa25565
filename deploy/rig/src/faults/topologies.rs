//! A Redis of several servers that loses one of them.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::field::Field;
use crate::stack::Spread;
use crate::{Failure, Result};

/// How long posts go on before a server is killed.
const BETWEEN: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(2);
/// How long posts go on after a failover, before the one that was killed comes back.
const AWAY: std::ops::Range<Duration> = Duration::ZERO..Duration::from_secs(3);

/// F17: the master of a set with sentinels is killed, the replica takes its place, and the old master comes back with what
/// it believes.
pub(super) async fn failovers(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(field.rng.random_range(BETWEEN)).await;
        field.strike();
        let away = field.rng.random_range(AWAY);
        let Some(Spread::Sentinels(set)) = &mut field.stack.spread else {
            return Err(Failure::new("a failover needs sentinels"));
        };
        set.fail_over().await?;
        sleep(away).await;
        field.stack.mend().await?;
    }
    Ok(())
}

/// F18: a master of a cluster without replicas is killed, and comes back with its files.
pub(super) async fn masters(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(field.rng.random_range(BETWEEN)).await;
        field.strike();
        let away = field.rng.random_range(AWAY);
        let Some(Spread::Cluster(cluster)) = &mut field.stack.spread else {
            return Err(Failure::new("there is no cluster"));
        };
        let victim = field.rng.random_range(0..cluster.masters.len());
        cluster.masters[victim].kill()?;
        // Now the others notice that it is gone, now it is back before.
        sleep(away).await;
        field.stack.mend().await?;
    }
    Ok(())
}
