//! The topology of Redis: which server owns which slot at this moment.
//!
//! One mechanism covers all three deployments (single server, Sentinel, Cluster): code that needs a server asks the topology for
//! it, and reports errors that show the topology to be out of date. The driver's own Sentinel and Cluster clients are not used.
//! They hide such a table, while XREAD and sharded subscriptions need it as well; and its cluster client sends a command again
//! whose reply was lost, and blocks every slot while it looks for the master of one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::COMMAND_TIMEOUT;
use super::address::{Address, Deployment, Node};
use super::connection_factory::ConnectionFactory;
use super::sentinel::find_master;
use super::slots::SlotTable;
use crate::telemetry::FailureSeries;

/// How often the topology is refreshed although nothing failed. This finds silent failures, such as a master that was cut off
/// from the others and still answers this process.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// Shortest time between two refreshes, however many errors ask for one.
const MIN_REFRESH_PAUSE: Duration = Duration::from_millis(50);

/// Which server owns what.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Table {
    /// Not known yet.
    Unknown,
    /// One server owns everything.
    One(Node),
    /// By slot.
    Slots(SlotTable),
}

/// The topology of one installation.
pub(super) struct Topology {
    deployment: Deployment,
    pub(super) connections: ConnectionFactory,
    table: watch::Sender<Arc<Table>>,
    /// Asks for a refresh at once.
    refresh: Notify,
}

impl Topology {
    /// A topology that a task refreshes until `stop` is cancelled or the last user of the topology is gone.
    pub(super) fn spawn(address: &Address, connections: ConnectionFactory, stop: CancellationToken) -> Arc<Self> {
        let table = match &address.deployment {
            Deployment::Single(node) => Table::One(node.clone()),
            Deployment::Sentinel { .. } | Deployment::Cluster(_) => Table::Unknown,
        };
        let topology = Arc::new(Self {
            deployment: address.deployment.clone(),
            connections,
            table: watch::Sender::new(Arc::new(table)),
            refresh: Notify::new(),
        });
        if !matches!(topology.deployment, Deployment::Single(_)) {
            tokio::spawn(keep_fresh(Arc::downgrade(&topology), stop));
        }
        topology
    }

    /// Whether the keys are spread over several servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.deployment, Deployment::Cluster(_))
    }

    /// Whether another server can take over.
    pub(super) fn has_failover(&self) -> bool {
        !matches!(self.deployment, Deployment::Single(_))
    }

    /// The server that takes writes to `slot`. Any slot will do where one server owns everything.
    pub(super) fn node_of(&self, slot: u16) -> RedisResult<Node> {
        let table = Arc::clone(&self.table.borrow());
        let node = match &*table {
            Table::Unknown => None,
            Table::One(node) => Some(node),
            Table::Slots(slots) => slots.master_of(slot),
        };
        node.cloned().ok_or_else(|| {
            self.refresh.notify_one();
            (ErrorKind::ClusterConnectionNotFound, "no server is known that takes writes").into()
        })
    }

    /// Every server that takes writes; empty while none is known.
    pub(super) fn nodes(&self) -> Vec<Node> {
        match &**self.table.borrow() {
            Table::Unknown => Vec::new(),
            Table::One(node) => vec![node.clone()],
            Table::Slots(slots) => slots.masters(),
        }
    }

    /// The same, discovered first if none is known. The error then gives the reason.
    pub(super) async fn find_nodes(&self) -> RedisResult<Vec<Node>> {
        if matches!(**self.table.borrow(), Table::Unknown) {
            let table = self.discover().await?;
            self.replace(table);
        }
        Ok(self.nodes())
    }

    /// Watches for changes of the topology.
    pub(super) fn subscribe(&self) -> TopologyWatch {
        TopologyWatch(self.table.subscribe())
    }

    /// Refreshes the topology if `error` shows that it may be out of date.
    pub(super) fn note_error(&self, error: &RedisError) {
        let outdated = match error.kind() {
            ErrorKind::Server(kind) => matches!(
                kind,
                ServerErrorKind::Moved
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
            ),
            ErrorKind::Io | ErrorKind::MasterNameNotFoundBySentinel | ErrorKind::ClusterConnectionNotFound => true,
            _ => false,
        };
        if outdated {
            self.refresh.notify_one();
        }
    }

    async fn discover(&self) -> RedisResult<Table> {
        match &self.deployment {
            Deployment::Single(node) => Ok(Table::One(node.clone())),
            Deployment::Sentinel { sentinels, master } => {
                find_master(&self.connections, sentinels, master).await.map(Table::One)
            }
            Deployment::Cluster(seeds) => {
                let mut nodes = self.nodes();
                nodes.extend(seeds.iter().cloned());
                nodes.sort();
                nodes.dedup();
                let (slots, _) = select_ok(nodes.into_iter().map(|node| self.query_slots(node).boxed())).await?;
                Ok(Table::Slots(slots))
            }
        }
    }

    async fn query_slots(&self, node: Node) -> RedisResult<SlotTable> {
        let mut connection = self.connections.dedicated(&node, COMMAND_TIMEOUT).await?;
        SlotTable::query(&mut connection, &node).await
    }

    /// Replaces the table; true if the new one differs.
    fn replace(&self, table: Table) -> bool {
        self.table.send_if_modified(|current| {
            let differs = **current != table;
            if differs {
                *current = Arc::new(table);
            }
            differs
        })
    }
}

/// Waits for changes of the topology.
pub struct TopologyWatch(watch::Receiver<Arc<Table>>);

impl TopologyWatch {
    /// Returns at the next change that was not waited for yet. Once the topology is gone, it never returns.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn keep_fresh(topology: Weak<Topology>, stop: CancellationToken) {
    let mut failures = FailureSeries::default();
    while !stop.is_cancelled() {
        let Some(topology) = topology.upgrade() else {
            return;
        };
        let before = topology.nodes();
        match topology.discover().await {
            Ok(table) => {
                failures.recovered();
                if topology.replace(table) {
                    log_change(&before, &topology.nodes());
                }
            }
            Err(error) => {
                if failures.failed() {
                    warn!(error = %error, "cannot find out which Redis takes writes, retrying: {error}");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = topology.refresh.notified() => tokio::time::sleep(MIN_REFRESH_PAUSE).await,
            () = tokio::time::sleep(REFRESH_INTERVAL) => {}
        }
    }
}

fn log_change(before: &[Node], masters: &[Node]) {
    if before == masters {
        info!("slots of Redis have moved from one server to another");
        return;
    }
    let masters: Vec<String> = masters.iter().map(ToString::to_string).collect();
    info!(redis.masters = masters.join(" "), "Redis is written to at {}", masters.join(", "));
}
