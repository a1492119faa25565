//! A Redis Cluster of three masters that share the keys.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::cmd;

use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::ports::free_port;
use crate::redis_node::RedisNode;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// Its servers.
const MASTERS: u16 = 3;

/// How long the cluster may take until its servers know each other, also after one was away.
const FORMED_WITHIN: Duration = Duration::from_secs(15);

/// A Redis Cluster without replicas.
pub struct RedisCluster {
    /// The masters; each begins with a third of the slots.
    pub masters: Vec<RedisNode>,
}

impl RedisCluster {
    /// Starts the servers under `directory`, joins them and waits until they agree.
    pub async fn start(directory: &Path) -> Result<Self> {
        let mut masters = Vec::new();
        let mut bus_ports = Vec::new();
        for number in 0..MASTERS {
            let bus_port = free_port()?.to_string();
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus_port,
                "--cluster-node-timeout",
                "2000",
            ];
            // While one master is away the others go on with their slots.
            let partial = ["--cluster-require-full-coverage", "no"];
            let name = format!("redis-{number}");
            masters.push(RedisNode::start(&name, directory, &[&arguments[..], &partial].concat()).await?);
            bus_ports.push(bus_port);
        }
        for (number, master) in (0..MASTERS).zip(&masters) {
            let share = |number: u16| u32::from(SLOTS) * u32::from(number) / u32::from(MASTERS);
            let mut own = cmd("CLUSTER");
            own.arg("ADDSLOTSRANGE").arg(share(number)).arg(share(number + 1) - 1);
            master.run::<()>(&own).await?;
            let mut meet = cmd("CLUSTER");
            meet.arg("MEET").arg("127.0.0.1").arg(masters[0].port()).arg(&bus_ports[0]);
            if number > 0 {
                master.run::<()>(&meet).await?;
            }
        }
        let cluster = Self { masters };
        cluster.wait_formed().await?;
        Ok(cluster)
    }

    /// The URL for clients; two of the servers are enough to find the third.
    #[must_use]
    pub fn url(&self) -> String {
        let some: Vec<String> = self.masters.iter().take(2).map(RedisNode::address).collect();
        format!("redis+cluster://{}", some.join(","))
    }

    /// Waits until every master considers the cluster complete.
    pub async fn wait_formed(&self) -> Result<()> {
        eventually(FORMED_WITHIN, "the cluster is complete", async || {
            for master in &self.masters {
                let state: String = master.run(cmd("CLUSTER").arg("INFO")).await?;
                let complete = state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3");
                if !complete || !state.contains("cluster_slots_ok:16384") {
                    return Err(Failure::new(state));
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until the others have noticed that the master with this index is gone.
    pub async fn wait_missed(&self, index: usize) -> Result<()> {
        let other = &self.masters[(index + 1) % self.masters.len()];
        eventually(FORMED_WITHIN, "the others notice", async || {
            let state: String = other.run(cmd("CLUSTER").arg("INFO")).await?;
            if state.contains("cluster_slots_fail:0\r\n") {
                Err(Failure::new(state))
            } else {
                Ok(())
            }
        })
        .await
    }

    /// The index in `masters` of the one that owns the slot of `key`.
    pub async fn owner_of(&self, key: &str) -> Result<usize> {
        let slot: u16 = self.masters[0].run(cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?;
        for (index, master) in self.masters.iter().enumerate() {
            if own_slots(&master.run::<String>(cmd("CLUSTER").arg("NODES")).await?).contains(&slot) {
                return Ok(index);
            }
        }
        Err(Failure::new(format!("nobody owns slot {slot}")))
    }

    /// Moves the slot of `key`, with its keys, to another master, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, key: &str, from: usize, to: usize) -> Result<()> {
        let slot: u16 = self.masters[0].run(cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?;
        let (source, target) = (&self.masters[from], &self.masters[to]);
        let ids: Vec<String> =
            try_join_all([source, target].map(|node| async { node.run::<String>(cmd("CLUSTER").arg("MYID")).await }))
                .await?;
        let set = |state: &str, id: &str| cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(id).clone();
        target.run::<()>(&set("IMPORTING", &ids[0])).await?;
        source.run::<()>(&set("MIGRATING", &ids[1])).await?;
        eventually(FORMED_WITHIN, "the slot is empty", async || {
            let keys: Vec<String> = source.run(cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(100)).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let count = keys.len();
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(target.port()).arg("").arg(0).arg(5_000).arg("KEYS").arg(keys);
            let _moved: String = source.run(&migrate).await?;
            Err(Failure::new(format!("{count} keys were moved, and there may be more")))
        })
        .await?;
        target.run::<()>(&set("NODE", &ids[1])).await?;
        source.run::<()>(&set("NODE", &ids[1])).await?;
        Ok(())
    }
}

/// The slots that the server which sent this reply to CLUSTER NODES owns itself.
fn own_slots(nodes: &str) -> Vec<u16> {
    let own = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
    let ranges = own.split(' ').skip(8).filter(|range| !range.starts_with('['));
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    ranges.filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_slots_are_parsed_and_everything_else_is_left_out() {
        let line = |slots: &str| {
            format!(
                "a 127.0.0.1:1@2 master - 0 0 2 connected 5\nb 127.0.0.1:3@4 myself,master - 0 0 1 connected {slots}\n"
            )
        };
        assert_eq!(own_slots(&line("0-2 7 [9->-a]")), [0, 1, 2, 7]);
        assert_eq!(own_slots(&line("x 1-y -3 99999")), [0; 0]);
        assert_eq!(own_slots(""), [0; 0]);
    }
}
