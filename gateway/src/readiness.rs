//! Whether this gateway can serve, and if not, why.
//!
//! Asked for by load balancers, often, and most of all when something is wrong: nobody may wait for what does not answer.

use std::time::Duration;

use redis::AsyncCommands as _;
use tokio::time::timeout;

use crate::app::App;

/// How long SQL and Redis may take to answer a trifle before they count as away. The answer must be there within 0.5 s.
const PROBE_TIME: Duration = Duration::from_millis(400);

/// Why calls fail, or what is wrong beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The gateway stops.
    Stopping,
    /// SQL does not answer.
    SqlUnreachable,
    /// Redis does not answer, or one of its masters.
    RedisUnreachable,
    /// Redis has used up its memory: no post is taken.
    RedisFull,
    /// A server of Redis answers and writes nothing: no post of its rooms is taken.
    RedisRefusesWrites,
    /// Too many accepted messages of some rooms wait to be stored: their posts are refused.
    BacklogFull,
    /// No worker stores messages.
    NoWorker,
}

impl Reason {
    /// Stable, in snake_case: what programs test.
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

    /// Whether calls fail for it, where posts are acknowledged only when they are stored or not.
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

/// Everything that is wrong now.
pub async fn look(app: &App) -> Vec<Reason> {
    // What a post needs: its limits are counted over one connection, and it is appended over another.
    let mut counting = app.redis.clone();
    let (sql, counted, worker) = tokio::join!(
        timeout(PROBE_TIME, app.store.ping()),
        timeout(PROBE_TIME, counting.exists::<_, bool>(app.redis.key_space().workers())),
        timeout(PROBE_TIME, app.acceptor.sees_workers()),
    );
    let accept_log = app.acceptor.accept_log();
    let is_away = !matches!(counted, Ok(Ok(_))) || !matches!(worker, Ok(Ok(_))) || accept_log.is_away;
    let found = [
        (app.lifecycle.soft.is_cancelled(), Reason::Stopping),
        (!matches!(sql, Ok(Ok(()))), Reason::SqlUnreachable),
        (is_away, Reason::RedisUnreachable),
        (accept_log.memory_is_full, Reason::RedisFull),
        (accept_log.is_read_only, Reason::RedisRefusesWrites),
        (accept_log.backlog_is_full, Reason::BacklogFull),
        (matches!(worker, Ok(Ok(false))), Reason::NoWorker),
    ];
    found.into_iter().filter_map(|(is_so, reason)| is_so.then_some(reason)).collect()
}
