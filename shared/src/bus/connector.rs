//! Connects a process to Redis as its settings say: the factory of every client and connection.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{RedisResult, cmd};
use tokio_util::sync::CancellationToken;

use super::COMMAND_TIMEOUT;
use super::address::{Address, InvalidAddress, Node};
use super::client::RedisClient;
use super::connection_factory::ConnectionFactory;
use super::key_space::KeySpace;
use super::pool::Pool;
use super::sentinel::is_master;
use super::slots::slot_of;
use super::topology::{Topology, TopologyWatch};
use crate::domain::Partition;
use crate::settings::RedisArgs;

/// What a certificate in PEM begins with (RFC 7468).
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Why the settings lead to no Redis.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRedisSettings {
    /// The URL cannot be parsed.
    #[error(
        "REDIS_URL must be of the form redis://[user:password@]host:port[/db], or as deploy/docs/redis.md says for TLS, Sentinel and Cluster: {0}"
    )]
    Url(#[from] InvalidAddress),
    /// The file of certificates cannot be read.
    #[error("REDIS_CA_FILE cannot be read: {0}")]
    Authorities(#[source] std::io::Error),
    /// The file holds no certificates, or is not used.
    #[error("REDIS_CA_FILE {0}")]
    NoAuthorities(&'static str),
}

/// The Redis of an installation, whatever its topology. Clones share the topology.
#[derive(Clone)]
pub struct RedisConnector {
    pub(super) topology: Arc<Topology>,
    keys: Arc<KeySpace>,
    pub(super) approved: Arc<AtomicBool>,
}

/// Two connections to the server that serves a partition. They do not reconnect, so neither of them ever leads to another
/// server.
pub struct PartitionConnections {
    node: Node,
    /// For commands that block.
    pub blocking: MultiplexedConnection,
    /// For commands that must not wait for a blocking one.
    pub side: MultiplexedConnection,
}

impl RedisConnector {
    /// The Redis that `args` describe, for the installation of `keys`. Its topology is watched until `stop` is cancelled.
    /// Nothing is connected yet.
    pub fn open(args: &RedisArgs, keys: KeySpace, stop: CancellationToken) -> Result<Self, InvalidRedisSettings> {
        let (address, authorities) = parse_settings(args)?;
        let connections = ConnectionFactory::new(&address, authorities);
        Ok(Self {
            topology: Topology::spawn(&address, connections, stop),
            keys: Arc::new(keys),
            approved: Arc::default(),
        })
    }

    /// Fails if `args` cannot lead to any server, whatever runs there.
    pub fn check_settings(args: &RedisArgs) -> Result<(), InvalidRedisSettings> {
        parse_settings(args).map(drop)
    }

    /// The names of the installation.
    #[must_use]
    pub fn key_space(&self) -> &Arc<KeySpace> {
        &self.keys
    }

    /// A client that many tasks share and that finds, and finds again, the server of each command.
    ///
    /// It refuses every command until [`RedisConnector::wait_until_safe`] has found that the servers keep what they accept.
    #[must_use]
    pub fn client(&self) -> RedisClient {
        RedisClient::new(Arc::clone(&self.topology), Arc::clone(&self.keys), Arc::clone(&self.approved))
    }

    /// Opens connections to the server that serves `partition`, for one reader that blocks in a command for up to
    /// `longest_wait`. The caller opens others after any error, and when the server [no longer serves](Self::still_serves) the
    /// partition.
    pub async fn connect_to_partition(
        &self,
        partition: Partition,
        longest_wait: Duration,
    ) -> RedisResult<PartitionConnections> {
        let opened = self.open_partition(self.keys.accept_stream(partition), longest_wait).await;
        opened.inspect_err(|error| self.topology.note_error(error))
    }

    async fn open_partition(&self, stream: &str, longest_wait: Duration) -> RedisResult<PartitionConnections> {
        let node = self.topology.node_of(slot_of(stream.as_bytes()))?;
        let connections = &self.topology.connections;
        // The side connection comes first: if another server takes the address in between, nothing is removed there that was
        // read from the former one.
        let side = connections.dedicated(&node, COMMAND_TIMEOUT).await?;
        let mut blocking = connections.dedicated(&node, longest_wait + COMMAND_TIMEOUT).await?;
        if self.topology.is_cluster() {
            // This fails if another server serves the partition.
            cmd("XLEN").arg(stream).exec_async(&mut blocking).await?;
        } else if self.topology.has_failover() {
            // A replica would answer reads, and nothing new would come.
            is_master(connections, &node).await?;
        }
        Ok(PartitionConnections { node, blocking, side })
    }

    /// False once another server serves `partition`, as far as is known: then nothing new comes to the server of
    /// `connections`, which need not know it itself.
    #[must_use]
    pub fn still_serves(&self, partition: Partition, connections: &PartitionConnections) -> bool {
        let serving = self.topology.node_of(slot_of(self.keys.accept_stream(partition).as_bytes()));
        serving.map_or(true, |node| node == connections.node)
    }

    /// Whether all partitions are on one server, so that one command may name several of them.
    #[must_use]
    pub fn has_one_node(&self) -> bool {
        !self.topology.is_cluster()
    }

    /// Pooled connections for the rare commands.
    #[must_use]
    pub fn pool(&self) -> Pool {
        Pool::new(Arc::clone(&self.topology), Arc::clone(&self.keys))
    }

    /// Every server that takes writes; empty while none is known.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.topology.nodes()
    }

    /// The server that serves a sharded channel; `None` while it is not known.
    #[must_use]
    pub fn node_of_channel(&self, channel: &str) -> Option<Node> {
        self.topology.node_of(slot_of(channel.as_bytes())).ok()
    }

    /// Watches for another server that takes writes, or some of them.
    #[must_use]
    pub fn watch_topology(&self) -> TopologyWatch {
        self.topology.subscribe()
    }

    /// Notes an error that occurred on a connection to one of the servers: it may show that the topology has changed.
    pub fn note_error(&self, error: &redis::RedisError) {
        self.topology.note_error(error);
    }

    /// Opens a connection for subscriptions at `node`. Messages that the server pushes go to `pushes`, which must not block.
    pub async fn connect_for_pushes(
        &self,
        node: &Node,
        pushes: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let opened = self.topology.connections.subscribing(node, COMMAND_TIMEOUT, pushes).await;
        opened.inspect_err(|error| self.topology.note_error(error))
    }
}

/// The address of Redis, and the certificate authorities to trust.
fn parse_settings(args: &RedisArgs) -> Result<(Address, Option<Vec<u8>>), InvalidRedisSettings> {
    let address = Address::parse(args.redis_url.expose())?;
    let Some(file) = &args.redis_ca_file else {
        return Ok((address, None));
    };
    let authorities = std::fs::read(file).map_err(InvalidRedisSettings::Authorities)?;
    if !address.tls {
        return Err(InvalidRedisSettings::NoAuthorities("is of no use without rediss:// in REDIS_URL"));
    }
    let certificates = authorities.windows(CERTIFICATE.len()).filter(|part| *part == CERTIFICATE).count();
    let connections = ConnectionFactory::new(&address, Some(authorities.clone()));
    let usable = connections
        .client(&Node {
            host: "localhost".into(),
            port: 1,
        })
        .is_ok();
    if certificates == 0 || !usable {
        return Err(InvalidRedisSettings::NoAuthorities("holds no certificates in PEM"));
    }
    Ok((address, Some(authorities)))
}
