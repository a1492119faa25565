//! The links between the processes of a stack, each through a proxy that can be cut, darkened and slowed.

use crate::{Proxy, Result};

/// Who talks to whom over a link; the number says which gateway or worker, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Clients to a gateway.
    Door(usize),
    /// A gateway to Redis.
    GatewayRedis(usize),
    /// A worker to Redis.
    WorkerRedis(usize),
    /// A gateway to Postgres.
    GatewayPostgres(usize),
    /// A worker to Postgres.
    WorkerPostgres(usize),
}

/// One link.
pub struct Link {
    /// Who talks over it.
    pub ends: Ends,
    /// What stands between them.
    pub proxy: Proxy,
}

impl Link {
    /// A link whose bytes go to `port`.
    pub(super) async fn to(port: u16, ends: Ends) -> Result<Self> {
        let proxy = Proxy::start(port).await?;
        Ok(Self { ends, proxy })
    }
}
