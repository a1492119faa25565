//! A Redis of several servers, for faults that a single server cannot have.

use std::path::Path;

use crate::failure::Result;
use crate::redis_cluster::RedisCluster;
use crate::redis_node::RedisNode;
use crate::redis_sentinels::RedisSentinels;
use crate::restartable_process::ProcessHandle;

/// How the Redis of an installation is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisMode {
    /// One server.
    #[default]
    Single,
    /// A master, a replica and sentinels.
    Sentinels,
    /// Three masters that share the keys.
    Cluster,
}

/// The servers of a Redis that has several.
pub enum RedisGroup {
    /// A master, a replica and sentinels.
    Sentinels(RedisSentinels),
    /// Three masters that share the keys.
    Cluster(RedisCluster),
}

impl RedisGroup {
    /// Starts the servers under `directory`; none for a single server.
    pub(super) async fn start(mode: RedisMode, directory: &Path) -> Result<Option<Self>> {
        Ok(match mode {
            RedisMode::Single => None,
            RedisMode::Sentinels => Some(Self::Sentinels(RedisSentinels::start(directory).await?)),
            RedisMode::Cluster => Some(Self::Cluster(RedisCluster::start(directory).await?)),
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
    pub(crate) fn processes(&self) -> Vec<ProcessHandle> {
        self.nodes().iter().map(RedisNode::process).collect()
    }

    fn nodes(&self) -> &[RedisNode] {
        match self {
            Self::Sentinels(set) => &set.servers,
            Self::Cluster(cluster) => &cluster.masters,
        }
    }

    /// Starts what does not run, and waits until all of them agree.
    pub(super) async fn recover(&mut self) -> Result<()> {
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
