//! Telling the other gateways.

use std::time::Duration;

use deadpool_redis::PoolError;
use redis::AsyncCommands as _;
use shared::bus::{CONTROL_CHANNEL, ControlEvent, Pool};

/// How often telling is tried.
const ATTEMPTS: u32 = 3;

/// Pause after the first failure; it grows with each.
const PAUSE: Duration = Duration::from_millis(100);

/// The other gateways could not be told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// No connection to Redis.
    #[error("no connection to Redis: {0}")]
    Pool(#[from] PoolError),
    /// Redis did not take the event.
    #[error("Redis did not take the event: {0}")]
    Redis(#[from] redis::RedisError),
}

/// Tells all gateways, this one included; tried a few times.
///
/// After an error the change itself stands, and the other gateways find out by themselves within [`crate::ears`]'s time.
pub async fn tell(pool: &Pool, event: &ControlEvent) -> Result<(), TellError> {
    let raw = event.encode();
    let mut attempt = 1;
    loop {
        match publish(pool, &raw).await {
            Err(_) if attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn publish(pool: &Pool, raw: &[u8]) -> Result<(), TellError> {
    let mut connection = pool.get().await?;
    let _receivers: i64 = connection.publish(CONTROL_CHANNEL, raw).await?;
    Ok(())
}
