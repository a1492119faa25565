//! A pool of connections for the rare commands, each verified by a PING when it is taken out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_redis::{Connection, Manager, PoolError, Runtime};
use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use redis::ErrorKind;

use super::COMMAND_TIMEOUT;
use super::address::Node;
use super::connection_factory::config;
use super::key_space::KeySpace;
use super::topology::Topology;

/// Connections to one server at most. Their users are the rare calls; the frequent ones share a connection.
const POOL_SIZE: usize = 8;

/// Connections to any server that takes writes: for what has no key, such as publishing to everybody. Clones share them.
///
/// One pool for each server, because a connection belongs to a server and masters change.
#[derive(Clone)]
pub struct Pool {
    map: Arc<Topology>,
    keys: Arc<KeySpace>,
    pools: Arc<Mutex<HashMap<Node, deadpool_redis::Pool>>>,
}

impl Pool {
    pub(super) fn new(map: Arc<Topology>, keys: Arc<KeySpace>) -> Self {
        Self {
            map,
            keys,
            pools: Arc::default(),
        }
    }

    /// The names of the installation.
    #[must_use]
    pub fn key_space(&self) -> &KeySpace {
        &self.keys
    }

    /// A connection that answers now: of all servers that take writes, to the one that is first to.
    pub async fn get(&self) -> Result<Connection, PoolError> {
        let nodes = self.map.nodes();
        if nodes.is_empty() {
            let unknown = (ErrorKind::ClusterConnectionNotFound, "no server is known that takes writes");
            return Err(PoolError::Backend(unknown.into()));
        }
        let attempts = nodes.iter().map(|node| async { self.pool_of(node)?.get().await }.boxed());
        let first = select_ok(attempts).await.inspect_err(|failure| {
            if let PoolError::Backend(error) = failure {
                self.map.note_error(error);
            }
        });
        first.map(|(connection, _)| connection)
    }

    fn pool_of(&self, node: &Node) -> Result<deadpool_redis::Pool, PoolError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(node) {
            return Ok(pool.clone());
        }
        let nodes = self.map.nodes();
        pools.retain(|node, _| nodes.contains(node));
        let client = self.map.access.client(node)?;
        let manager = Manager::new_with_config(client.get_connection_info().clone(), config(COMMAND_TIMEOUT))?;
        let pool = deadpool_redis::Pool::builder(manager)
            .max_size(POOL_SIZE)
            .wait_timeout(Some(COMMAND_TIMEOUT))
            .create_timeout(Some(COMMAND_TIMEOUT))
            .recycle_timeout(Some(COMMAND_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("time-outs are set together with a runtime");
        pools.insert(node.clone(), pool.clone());
        Ok(pool)
    }
}
