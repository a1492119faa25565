//! A master, a replica, and three sentinels of which two must agree that the master is gone.

use std::path::Path;
use std::time::Duration;

use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::redis_node::RedisNode;

/// The name of the master in the sentinels' configuration.
const NAME: &str = "chat";

/// How long the servers and sentinels may take to agree. A master that comes back after a failover considers itself the
/// master until the sentinels reconfigure it, some ten seconds later.
const FORMED_WITHIN: Duration = Duration::from_secs(40);

/// A Redis that fails over.
pub struct RedisSentinels {
    /// The servers; the first one begins as the master.
    pub servers: Vec<RedisNode>,
    sentinels: Vec<RedisNode>,
}

impl RedisSentinels {
    /// Starts all of them under `directory` and waits until the replica follows and the sentinels know each other.
    pub async fn start(directory: &Path) -> Result<Self> {
        let master = RedisNode::start("redis-a", directory, &[]).await?;
        let following = format!("127.0.0.1 {}", master.port());
        let replica = RedisNode::start("redis-b", directory, &["--replicaof", &following]).await?;
        let watched = format!(
            "sentinel monitor {NAME} {following} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 4000\n"
        );
        let mut sentinels = Vec::new();
        for name in ["sentinel-a", "sentinel-b", "sentinel-c"] {
            sentinels.push(RedisNode::start_sentinel(name, directory, &watched).await?);
        }
        let set = Self {
            servers: vec![master, replica],
            sentinels,
        };
        set.wait_formed().await?;
        Ok(set)
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        let sentinels: Vec<String> = self.sentinels.iter().map(RedisNode::address).collect();
        format!("redis+sentinel://{}/{NAME}", sentinels.join(","))
    }

    /// The index in `servers` of the one that the sentinels name as the master.
    pub async fn master(&self) -> Result<usize> {
        let ask = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(NAME).clone();
        let (_, port): (String, u16) = self.sentinels[0].run(&ask).await?;
        let index = self.servers.iter().position(|server| server.port() == port);
        index.ok_or_else(|| Failure::new(format!("the sentinels name an unknown server at port {port}")))
    }

    /// Kills the master and waits until the replica has become the master.
    pub async fn fail_over(&mut self) -> Result<()> {
        let old = self.master().await?;
        self.servers[old].kill()?;
        eventually(FORMED_WITHIN, "the replica is the master", async || {
            let new = self.master().await?;
            let replication = self.servers[new].info("replication").await?;
            if new != old && replication.contains("role:master") {
                Ok(())
            } else {
                Err(Failure::new(replication))
            }
        })
        .await
    }

    /// Makes a replica an independent server, with what it has copied. The sentinels do not name it as the master yet.
    pub async fn detach(&self, server: usize) -> Result<()> {
        self.servers[server].run(redis::cmd("REPLICAOF").arg("NO").arg("ONE")).await
    }

    /// Makes the sentinels name another master from here on. The former master does not learn of it, as when the sentinels are
    /// cut off from it, and serves its clients as before.
    pub async fn name_master(&self, server: usize) -> Result<()> {
        let port = self.servers[server].port();
        for sentinel in &self.sentinels {
            let _ok: String = sentinel.run(redis::cmd("SENTINEL").arg("REMOVE").arg(NAME)).await?;
            let mut monitor = redis::cmd("SENTINEL");
            monitor.arg("MONITOR").arg(NAME).arg("127.0.0.1").arg(port).arg(2);
            let _ok: String = sentinel.run(&monitor).await?;
        }
        Ok(())
    }

    /// Waits until the replica follows the master and the sentinels know both.
    pub async fn wait_formed(&self) -> Result<()> {
        eventually(FORMED_WITHIN, "the sentinels know the replica and each other", async || {
            let replication = self.servers[self.master().await?].info("replication").await?;
            if !replication.contains("state=online") {
                return Err(Failure::new(replication));
            }
            for sentinel in &self.sentinels {
                let state = sentinel.info("sentinel").await?;
                if !state.contains("slaves=1,sentinels=3") {
                    return Err(Failure::new(state));
                }
            }
            Ok(())
        })
        .await
    }
}
