//! A Redis of several servers that loses one of them.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::failure::{Failure, Result};
use crate::fault_run::FaultRun;
use crate::stack::RedisGroup;

/// How long posts go on before a server is killed.
const BETWEEN: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(2);
/// How long posts go on after a failover, before the killed server comes back.
const AWAY: std::ops::Range<Duration> = Duration::ZERO..Duration::from_secs(3);

/// F17: the master of a Sentinel set is killed, the replica takes over, and the old master comes back as a master.
pub(super) async fn sentinel_failovers(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(run.rng.random_range(BETWEEN)).await;
        run.record_injection();
        let from = run.traffic.now();
        let away = run.rng.random_range(AWAY);
        let Some(RedisGroup::Sentinels(set)) = &mut run.stack.redis_group else {
            return Err(Failure::new("a failover needs sentinels"));
        };
        set.fail_over().await?;
        sleep(away).await;
        run.stack.recover().await?;
        run.record_unannounced(from);
    }
    Ok(())
}

/// F18: a master of a cluster without replicas is killed, and comes back with its files.
pub(super) async fn cluster_master_kills(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        sleep(run.rng.random_range(BETWEEN)).await;
        run.record_injection();
        let from = run.traffic.now();
        let away = run.rng.random_range(AWAY);
        let Some(RedisGroup::Cluster(cluster)) = &mut run.stack.redis_group else {
            return Err(Failure::new("there is no cluster"));
        };
        let victim = run.rng.random_range(0..cluster.masters.len());
        cluster.masters[victim].kill()?;
        // At times the others notice that it is gone, at times it is back before.
        sleep(away).await;
        run.stack.recover().await?;
        run.record_unannounced(from);
    }
    Ok(())
}
