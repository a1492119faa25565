//! Telling the other gateways.

use deadpool_redis::PoolError;
use redis::AsyncCommands as _;
use shared::bus::{CONTROL_CHANNEL, ControlEvent, Pool};
use tokio::time::timeout;

use crate::removals::LOOK_EVERY;

/// Why the other gateways could not be told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// No connection to Redis.
    #[error("no connection to Redis: {0}")]
    Pool(#[from] PoolError),
    /// Redis did not take the event.
    #[error("Redis did not take the event: {0}")]
    Redis(#[from] redis::RedisError),
    /// Redis has not answered in time.
    #[error("Redis has not answered within {} ms", LOOK_EVERY.as_millis())]
    Late,
}

/// Tells all gateways, this one included. Tried once, for no longer than it takes the others to find out by themselves.
pub async fn tell(pool: &Pool, event: &ControlEvent) -> Result<(), TellError> {
    timeout(LOOK_EVERY, publish(pool, &event.encode())).await.unwrap_or(Err(TellError::Late))
}

async fn publish(pool: &Pool, raw: &[u8]) -> Result<(), TellError> {
    let mut connection = pool.get().await?;
    let _receivers: i64 = connection.publish(CONTROL_CHANNEL, raw).await?;
    Ok(())
}
