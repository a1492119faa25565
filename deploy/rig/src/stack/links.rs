//! The network links between the processes of a stack, each through a proxy that can cut, block and slow it.

use crate::failure::Result;
use crate::proxy::Proxy;

/// The two ends of a link; the number says which gateway or worker, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnds {
    /// Clients to a gateway.
    ClientGateway(usize),
    /// A gateway to Redis.
    GatewayRedis(usize),
    /// A worker to Redis.
    WorkerRedis(usize),
    /// A gateway to Postgres.
    GatewayPostgres(usize),
    /// A worker to Postgres.
    WorkerPostgres(usize),
}

/// One network link.
pub struct Link {
    /// What it connects.
    pub ends: LinkEnds,
    /// The proxy between its ends.
    pub proxy: Proxy,
}

impl Link {
    /// A link whose bytes go to `port`.
    pub(super) async fn to(port: u16, ends: LinkEnds) -> Result<Self> {
        let proxy = Proxy::start(port).await?;
        Ok(Self { ends, proxy })
    }
}
