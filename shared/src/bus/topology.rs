//! Which server serves what, now.
//!
//! One mechanism for all three topologies: everybody who needs a server asks the map for it, and tells the map of errors
//! that show it to be out of date. The driver's own Sentinel and Cluster clients are not used. They keep such a map out
//! of sight, while reading with XREAD and sharded subscriptions need it as well; and its cluster client sends a command
//! again whose reply was lost, and holds up every slot while it looks for the master of one.

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

/// How often the map is made anew although nothing failed. It finds what fails silently, such as a master that was cut
/// off from the others and still answers us.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Shortest time between two looks, however many errors ask for one.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Who serves what.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Table {
    /// Not known yet.
    Unknown,
    /// One server has everything.
    One(Node),
    /// By slot.
    Slots(SlotTable),
}

/// The map of one installation.
pub(super) struct Topology {
    topology: Deployment,
    pub(super) access: ConnectionFactory,
    table: watch::Sender<Arc<Table>>,
    /// Asks for a look at once.
    look: Notify,
}

impl Topology {
    /// A map that is kept up to date until `stop` is cancelled or nobody uses it any more.
    pub(super) fn follow(address: &Address, access: ConnectionFactory, stop: CancellationToken) -> Arc<Self> {
        let table = match &address.topology {
            Deployment::Single(node) => Table::One(node.clone()),
            Deployment::Sentinel { .. } | Deployment::Cluster(_) => Table::Unknown,
        };
        let map = Arc::new(Self {
            topology: address.topology.clone(),
            access,
            table: watch::Sender::new(Arc::new(table)),
            look: Notify::new(),
        });
        if !matches!(map.topology, Deployment::Single(_)) {
            tokio::spawn(keep(Arc::downgrade(&map), stop));
        }
        map
    }

    /// Whether the keys are spread over several servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.topology, Deployment::Cluster(_))
    }

    /// Whether another server can take over.
    pub(super) fn has_failover(&self) -> bool {
        !matches!(self.topology, Deployment::Single(_))
    }

    /// The server that takes writes to `slot`; any slot will do where one server has everything.
    pub(super) fn node_of(&self, slot: u16) -> RedisResult<Node> {
        let table = Arc::clone(&self.table.borrow());
        let node = match &*table {
            Table::Unknown => None,
            Table::One(node) => Some(node),
            Table::Slots(slots) => slots.master_of(slot),
        };
        node.cloned().ok_or_else(|| {
            self.look.notify_one();
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

    /// The same, looked for first if none is known: the error then says why.
    pub(super) async fn find_nodes(&self) -> RedisResult<Vec<Node>> {
        if matches!(**self.table.borrow(), Table::Unknown) {
            let table = self.look().await?;
            self.take(table);
        }
        Ok(self.nodes())
    }

    /// Tells of every change of the map.
    pub(super) fn subscribe(&self) -> TopologyWatch {
        TopologyWatch(self.table.subscribe())
    }

    /// Makes the map anew if `error` shows that it may be out of date.
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
            self.look.notify_one();
        }
    }

    async fn look(&self) -> RedisResult<Table> {
        match &self.topology {
            Deployment::Single(node) => Ok(Table::One(node.clone())),
            Deployment::Sentinel { sentinels, master } => {
                find_master(&self.access, sentinels, master).await.map(Table::One)
            }
            Deployment::Cluster(seeds) => {
                let mut nodes = self.nodes();
                nodes.extend(seeds.iter().cloned());
                nodes.sort();
                nodes.dedup();
                let (slots, _) = select_ok(nodes.into_iter().map(|node| self.ask(node).boxed())).await?;
                Ok(Table::Slots(slots))
            }
        }
    }

    async fn ask(&self, node: Node) -> RedisResult<SlotTable> {
        let mut connection = self.access.own(&node, COMMAND_TIMEOUT).await?;
        SlotTable::ask(&mut connection, &node).await
    }

    /// Takes a new table over; true if it differs.
    fn take(&self, table: Table) -> bool {
        self.table.send_if_modified(|current| {
            let differs = **current != table;
            if differs {
                *current = Arc::new(table);
            }
            differs
        })
    }
}

/// Waits for changes of a map.
pub struct TopologyWatch(watch::Receiver<Arc<Table>>);

impl TopologyWatch {
    /// Returns at the next change that was not yet waited for; never, once the map is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn keep(map: Weak<Topology>, stop: CancellationToken) {
    let mut complained = false;
    while !stop.is_cancelled() {
        let Some(map) = map.upgrade() else {
            return;
        };
        let before = map.nodes();
        match map.look().await {
            Ok(table) => {
                complained = false;
                if map.take(table) {
                    tell(&before, &map.nodes());
                }
            }
            Err(error) if !complained => {
                complained = true;
                warn!(error = %error, "cannot find out which Redis takes writes, trying on: {error}");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = map.look.notified() => tokio::time::sleep(LOOK_PAUSE).await,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn tell(before: &[Node], masters: &[Node]) {
    if before == masters {
        info!("slots of Redis have moved from one server to another");
        return;
    }
    let masters: Vec<String> = masters.iter().map(ToString::to_string).collect();
    info!(redis.masters = masters.join(" "), "Redis is written to at {}", masters.join(", "));
}
