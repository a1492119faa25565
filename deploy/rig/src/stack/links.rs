//! The links between the processes of a stack, each through a proxy that can be cut, darkened and slowed.

use crate::{Gateway, Proxy, RedisServer, Result};

/// Who talks to whom over a link; the number says which gateway or worker, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Clients to a gateway.
    Door(usize),
    /// A gateway to Redis.
    GatewayRedis(usize),
    /// A worker to Redis.
    WorkerRedis(usize),
}

/// One link.
pub struct Link {
    /// Who talks over it.
    pub ends: Ends,
    /// What stands between them.
    pub proxy: Proxy,
}

impl Link {
    /// A link to Redis.
    pub(super) async fn to_redis(ends: Ends, redis: &RedisServer) -> Result<Self> {
        let proxy = Proxy::start(redis.port()).await?;
        Ok(Self { ends, proxy })
    }

    /// A link from clients to gateway `number`.
    pub(super) async fn to_gateway(number: usize, gateway: &Gateway) -> Result<Self> {
        let proxy = Proxy::start(gateway.port()).await?;
        Ok(Self {
            ends: Ends::Door(number),
            proxy,
        })
    }

    /// The setting that leads a process over this link to Redis.
    pub(super) fn redis_setting(&self) -> (String, String) {
        ("REDIS_URL".to_owned(), format!("redis://127.0.0.1:{}", self.proxy.port()))
    }
}
