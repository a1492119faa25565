//! Health checks: whether this gateway can serve, and if not, why.
//!
//! Load balancers ask often, and most of all when something is wrong, so every probe has a timeout.

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncCommands as _;
use shared::bus::RedisClient;
use shared::storage::Store;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::accept::Acceptor;
use crate::config::Ack;

/// How long SQL and Redis may take to answer a small question before they count as away. The answer must be there within
/// 0.5 s.
const PROBE_TIME: Duration = Duration::from_millis(400);

/// Why calls fail, or what is wrong although they can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The gateway stops.
    Stopping,
    /// SQL does not answer.
    SqlUnreachable,
    /// Redis does not answer, or one of its masters.
    RedisUnreachable,
    /// Redis has used up its memory: no post is accepted.
    RedisFull,
    /// A server of Redis answers and writes nothing: no post of its rooms is accepted.
    RedisRefusesWrites,
    /// Too many accepted messages of some rooms wait to be stored: their posts are refused.
    BacklogFull,
    /// No worker stores messages.
    NoWorker,
}

impl Reason {
    /// The stable name in snake_case that programs test.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::SqlUnreachable => "sql_unreachable",
            Self::RedisUnreachable => "redis_unreachable",
            Self::RedisFull => "redis_full",
            Self::RedisRefusesWrites => "redis_refuses_writes",
            Self::BacklogFull => "backlog_full",
            Self::NoWorker => "no_worker",
        }
    }

    /// Whether calls fail for it; `stored_only` says that posts are acknowledged only when they are stored.
    #[must_use]
    pub fn stops_calls(self, stored_only: bool) -> bool {
        match self {
            Self::Stopping
            | Self::SqlUnreachable
            | Self::RedisUnreachable
            | Self::RedisFull
            | Self::RedisRefusesWrites
            | Self::BacklogFull => true,
            Self::NoWorker => stored_only,
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether calls can be served.
    pub is_ready: bool,
    /// Everything that is wrong.
    pub reasons: Vec<Reason>,
}

/// The service of health: probes what a call needs.
pub struct Health {
    store: Store,
    /// Redis, as limits are counted through it.
    redis: RedisClient,
    acceptor: Arc<Acceptor>,
    /// Posts are acknowledged only when they are stored.
    stored_only: bool,
    stop: CancellationToken,
}

impl Health {
    /// Probes what is given here. The gateway stops when `stop` is cancelled.
    #[must_use]
    pub fn new(store: Store, redis: RedisClient, acceptor: Arc<Acceptor>, ack: Ack, stop: CancellationToken) -> Self {
        Self {
            store,
            redis,
            acceptor,
            stored_only: ack == Ack::Stored,
            stop,
        }
    }

    /// Whether this gateway can serve now, and what is wrong.
    pub async fn check(&self) -> Readiness {
        let reasons = self.reasons().await;
        let is_ready = !reasons.iter().any(|reason| reason.stops_calls(self.stored_only));
        Readiness { is_ready, reasons }
    }

    async fn reasons(&self) -> Vec<Reason> {
        // What a post needs: its limits are counted over one connection, and it is appended over another.
        let mut counting = self.redis.clone();
        let (sql, counted, worker) = tokio::join!(
            timeout(PROBE_TIME, self.store.ping()),
            timeout(PROBE_TIME, counting.exists::<_, bool>(self.redis.key_space().workers())),
            timeout(PROBE_TIME, self.acceptor.sees_workers()),
        );
        let accept_log = self.acceptor.accept_log();
        let is_unreachable = !matches!(counted, Ok(Ok(_))) || !matches!(worker, Ok(Ok(_))) || accept_log.is_unreachable;
        let found = [
            (self.stop.is_cancelled(), Reason::Stopping),
            (!matches!(sql, Ok(Ok(()))), Reason::SqlUnreachable),
            (is_unreachable, Reason::RedisUnreachable),
            (accept_log.memory_is_full, Reason::RedisFull),
            (accept_log.is_read_only, Reason::RedisRefusesWrites),
            (accept_log.backlog_is_full, Reason::BacklogFull),
            (matches!(worker, Ok(Ok(false))), Reason::NoWorker),
        ];
        found.into_iter().filter_map(|(is_so, reason)| is_so.then_some(reason)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_worker_stops_calls_if_posts_await_commits() {
        assert!(Reason::NoWorker.stops_calls(true) && !Reason::NoWorker.stops_calls(false));
        assert!(Reason::RedisFull.stops_calls(false) && Reason::SqlUnreachable.stops_calls(false));
    }
}
