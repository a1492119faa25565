//! A Redis of several servers, for what no single one can suffer.

use std::path::Path;

use crate::service::ProcessCell;
use crate::{RedisCluster, RedisNode, RedisSentinels, Result};

/// What Redis an installation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topology {
    /// One server.
    #[default]
    Single,
    /// A master, a replica and sentinels.
    Sentinels,
    /// Three masters that share the keys.
    Cluster,
}

/// The servers of a topology that has several.
pub enum Spread {
    /// A master, a replica and sentinels.
    Sentinels(RedisSentinels),
    /// Three masters that share the keys.
    Cluster(RedisCluster),
}

impl Spread {
    /// Starts the servers under `directory`; none for a single server.
    pub(super) async fn start(topology: Topology, directory: &Path) -> Result<Option<Self>> {
        Ok(match topology {
            Topology::Single => None,
            Topology::Sentinels => Some(Self::Sentinels(RedisSentinels::start(directory).await?)),
            Topology::Cluster => Some(Self::Cluster(RedisCluster::start(directory).await?)),
        })
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Sentinels(set) => set.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The URLs of the servers that hold keys.
    pub(super) fn servers(&self) -> Vec<String> {
        self.nodes().iter().map(|node| format!("redis://{}", node.address())).collect()
    }

    /// The processes of the servers that hold keys.
    pub(crate) fn cells(&self) -> Vec<ProcessCell> {
        self.nodes().iter().map(RedisNode::cell).collect()
    }

    fn nodes(&self) -> &[RedisNode] {
        match self {
            Self::Sentinels(set) => &set.servers,
            Self::Cluster(cluster) => &cluster.masters,
        }
    }

    /// Starts what does not run, and waits until all of them agree.
    pub(super) async fn mend(&mut self) -> Result<()> {
        let nodes = match self {
            Self::Sentinels(set) => &mut set.servers,
            Self::Cluster(cluster) => &mut cluster.masters,
        };
        for node in nodes.iter_mut().filter(|node| !node.runs()) {
            node.restart().await?;
        }
        match self {
            Self::Sentinels(set) => set.wait_formed().await,
            Self::Cluster(cluster) => cluster.wait_formed().await,
        }
    }
}
