//! Pooled connections for the rare commands, each verified by a PING when it leaves the pool.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_redis::{Connection, Manager, PoolError, Runtime};
use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use parking_lot::Mutex;
use redis::ErrorKind;

use super::COMMAND_TIMEOUT;
use super::address::Node;
use super::connection_factory::connection_config;
use super::key_space::KeySpace;
use super::topology::Topology;

/// Connections to one server at most. Only the rare calls use them; the frequent ones share a connection.
const POOL_SIZE: usize = 8;

/// Connections to any server that takes writes, for commands without a key, such as publishing to every gateway. Clones share
/// them.
///
/// Each server has a pool of its own, because a connection belongs to a server and masters change.
#[derive(Clone)]
pub struct Pool {
    topology: Arc<Topology>,
    keys: Arc<KeySpace>,
    pools: Arc<Mutex<HashMap<Node, deadpool_redis::Pool>>>,
}

impl Pool {
    pub(super) fn new(topology: Arc<Topology>, keys: Arc<KeySpace>) -> Self {
        Self {
            topology,
            keys,
            pools: Arc::default(),
        }
    }

    /// The names of the installation.
    #[must_use]
    pub fn key_space(&self) -> &KeySpace {
        &self.keys
    }

    /// A connection that answers at this moment: of all servers that take writes, to the one that answers first.
    pub async fn get(&self) -> Result<Connection, PoolError> {
        let nodes = self.topology.nodes();
        if nodes.is_empty() {
            let unknown = (ErrorKind::ClusterConnectionNotFound, "no server is known that takes writes");
            return Err(PoolError::Backend(unknown.into()));
        }
        let attempts = nodes.iter().map(|node| async { self.pool_of(node)?.get().await }.boxed());
        let first = select_ok(attempts).await.inspect_err(|failure| {
            if let PoolError::Backend(error) = failure {
                self.topology.note_error(error);
            }
        });
        first.map(|(connection, _)| connection)
    }

    fn pool_of(&self, node: &Node) -> Result<deadpool_redis::Pool, PoolError> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(node) {
            return Ok(pool.clone());
        }
        let nodes = self.topology.nodes();
        pools.retain(|node, _| nodes.contains(node));
        let client = self.topology.connections.client(node)?;
        let manager =
            Manager::new_with_config(client.get_connection_info().clone(), connection_config(COMMAND_TIMEOUT))?;
        let pool = deadpool_redis::Pool::builder(manager)
            .max_size(POOL_SIZE)
            .wait_timeout(Some(COMMAND_TIMEOUT))
            .create_timeout(Some(COMMAND_TIMEOUT))
            .recycle_timeout(Some(COMMAND_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("timeouts are set together with a runtime");
        pools.insert(node.clone(), pool.clone());
        Ok(pool)
    }
}
