//! Connections to Redis for looking at it and writing to it from outside of the services.

use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

/// How long a command may take. The client gives up after 500 ms unless told otherwise, which a write to a busy disk can take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// A connection whose commands may take as long as a busy machine needs.
pub(crate) async fn patient_connection(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWERED_WITHIN));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}
