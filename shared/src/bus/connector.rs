//! The one way to Redis for both processes, from its settings.

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

/// Why the settings lead to no Redis.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRedisSettings {
    /// The URL cannot be read.
    #[error(
        "REDIS_URL must be of the form redis://[user:password@]host:port[/db], or as README.md says for TLS, Sentinel and Cluster: {0}"
    )]
    Url(#[from] InvalidAddress),
    /// The file of certificates cannot be read.
    #[error("REDIS_CA_FILE cannot be read: {0}")]
    Authorities(#[source] std::io::Error),
    /// It does not hold what it should, or is not used.
    #[error("REDIS_CA_FILE {0}")]
    NoAuthorities(&'static str),
}

/// The Redis of an installation, whatever its topology. Clones share what is known of it.
#[derive(Clone)]
pub struct RedisConnector {
    pub(super) map: Arc<Topology>,
    keys: Arc<KeySpace>,
    pub(super) approved: Arc<AtomicBool>,
}

/// The server that holds a partition, as it was found. Its connections do not repair themselves, so that none of them
/// ever leads to another server.
pub struct PartitionConnections {
    node: Node,
    /// For commands that block.
    pub blocking: MultiplexedConnection,
    /// For what must not wait for them.
    pub side: MultiplexedConnection,
}

impl RedisConnector {
    /// The Redis that `args` describe, for the installation of `keys`; it is watched until `stop` is cancelled. Nothing is
    /// connected yet.
    pub fn open(args: &RedisArgs, keys: KeySpace, stop: CancellationToken) -> Result<Self, InvalidRedisSettings> {
        let (address, authorities) = read(args)?;
        let access = ConnectionFactory::new(&address, authorities);
        Ok(Self {
            map: Topology::follow(&address, access, stop),
            keys: Arc::new(keys),
            approved: Arc::default(),
        })
    }

    /// Fails if nothing can be reached by `args`, whatever runs there.
    pub fn check_settings(args: &RedisArgs) -> Result<(), InvalidRedisSettings> {
        read(args).map(drop)
    }

    /// The names of the installation.
    #[must_use]
    pub fn key_space(&self) -> &Arc<KeySpace> {
        &self.keys
    }

    /// A connection that many tasks share and that finds, and finds again, the server of each command.
    ///
    /// It refuses everything until [`RedisConnector::wait_until_safe`] has found that the servers keep what they accept.
    #[must_use]
    pub fn client(&self) -> RedisClient {
        RedisClient::new(Arc::clone(&self.map), Arc::clone(&self.keys), Arc::clone(&self.approved))
    }

    /// Opens connections to the server that holds `partition` now, for one reader that blocks in a command for up to
    /// `longest_wait`. After any error, and when it no longer [holds](Self::still_serves) the partition, open others.
    pub async fn connect_to_partition(
        &self,
        partition: Partition,
        longest_wait: Duration,
    ) -> RedisResult<PartitionConnections> {
        let opened = self.open_partition(self.keys.accept_stream(partition), longest_wait).await;
        opened.inspect_err(|error| self.map.note_error(error))
    }

    async fn open_partition(&self, stream: &str, longest_wait: Duration) -> RedisResult<PartitionConnections> {
        let node = self.map.node_of(slot_of(stream.as_bytes()))?;
        // First: should another server take the address in between, what is read from it is not removed elsewhere.
        let side = self.map.access.own(&node, COMMAND_TIMEOUT).await?;
        let mut blocking = self.map.access.own(&node, longest_wait + COMMAND_TIMEOUT).await?;
        if self.map.is_cluster() {
            // Fails if the partition is elsewhere.
            cmd("XLEN").arg(stream).exec_async(&mut blocking).await?;
        } else if self.map.has_failover() {
            // A replica would let us read, and nothing new would come.
            is_master(&self.map.access, &node).await?;
        }
        Ok(PartitionConnections { node, blocking, side })
    }

    /// False once another server holds `partition`, as far as is known: then nothing new comes to `holder`, which need not
    /// know it itself.
    #[must_use]
    pub fn still_serves(&self, partition: Partition, holder: &PartitionConnections) -> bool {
        let now = self.map.node_of(slot_of(self.keys.accept_stream(partition).as_bytes()));
        now.map_or(true, |node| node == holder.node)
    }

    /// Whether all partitions are on one server, so that one command may name several of them.
    #[must_use]
    pub fn has_one_node(&self) -> bool {
        !self.map.is_cluster()
    }

    /// Connections for the rare commands.
    #[must_use]
    pub fn pool(&self) -> Pool {
        Pool::new(Arc::clone(&self.map), Arc::clone(&self.keys))
    }

    /// Every server that takes writes; empty while none is known.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.map.nodes()
    }

    /// The server that serves a sharded channel; `None` while it is not known.
    #[must_use]
    pub fn node_of_channel(&self, channel: &str) -> Option<Node> {
        self.map.node_of(slot_of(channel.as_bytes())).ok()
    }

    /// Tells when another server takes writes, or some of them.
    #[must_use]
    pub fn watch_topology(&self) -> TopologyWatch {
        self.map.subscribe()
    }

    /// Says that an error was met on a connection to one of the servers.
    pub fn note_error(&self, error: &redis::RedisError) {
        self.map.note_error(error);
    }

    /// Opens a connection for subscriptions at `node`. What the server says unasked goes to `pushes`, which must not block.
    pub async fn connect_for_pushes(
        &self,
        node: &Node,
        pushes: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let opened = self.map.access.listening(node, COMMAND_TIMEOUT, pushes).await;
        opened.inspect_err(|error| self.map.note_error(error))
    }
}

fn read(args: &RedisArgs) -> Result<(Address, Option<Vec<u8>>), InvalidRedisSettings> {
    let address = Address::parse(args.redis_url.expose())?;
    let Some(file) = &args.redis_ca_file else {
        return Ok((address, None));
    };
    let authorities = std::fs::read(file).map_err(InvalidRedisSettings::Authorities)?;
    if !address.tls {
        return Err(InvalidRedisSettings::NoAuthorities("is of no use without rediss:// in REDIS_URL"));
    }
    let certificates = authorities.windows(CERTIFICATE.len()).filter(|part| *part == CERTIFICATE).count();
    let access = ConnectionFactory::new(&address, Some(authorities.clone()));
    let usable = access
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

/// What a certificate in PEM begins with (RFC 7468).
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
