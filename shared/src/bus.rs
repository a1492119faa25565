//! Redis as the two processes share it: key names, the form of entries and events, and how to connect.
//!
//! ```text
//! chat:{7}:in        stream   the accept log of partition 7: gateways append, its worker reads and trims
//! chat:{7}:room:42   channel  what was stored in room 42, published after the commit
//! ```
//!
//! The braces are a hash tag: on a Redis Cluster everything of one partition lives on one node.

mod check;
mod control;
mod entry;
mod event;
mod receipt;

use std::time::Duration;

pub use control::{CONTROL_CHANNEL, ControlEvent};
pub use entry::{InvalidEntry, decode_entry, encode_entry};
pub use event::{InvalidEvent, RoomEvent};
pub use receipt::{Receipts, receipts_channel};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::domain::{Partition, RoomId};

/// The living workers: a sorted set of their names, each with the time at which its place runs out, in milliseconds of
/// Redis's clock. It expires with the last of them, so that it exists only while some worker lives.
pub const WORKERS: &str = "roomcast:workers";

/// How long a command may take before its outcome counts as unknown.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection may be silent before the kernel asks whether the other side is still there.
const SILENCE: Duration = Duration::from_secs(2);

/// Longest pause between two attempts to reconnect.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Commands that may wait in the pipeline of one shared connection; further callers wait to enqueue theirs.
const PIPELINE_COMMANDS: usize = 4_096;

/// Connections a pool holds at most. Its users are the rare calls; the frequent ones share a connection.
const POOL_SIZE: usize = 8;

/// The accept log of a partition.
#[must_use]
pub fn accept_stream(partition: Partition) -> String {
    format!("chat:{{{partition}}}:in")
}

/// The channel on which a room's stored messages are published.
#[must_use]
pub fn room_channel(partition: Partition, room: RoomId) -> String {
    format!("chat:{{{partition}}}:room:{}", room.0)
}

/// The room whose channel `name` is; `None` for any other channel.
#[must_use]
pub fn room_of_channel(name: &str) -> Option<RoomId> {
    let (_, room) = name.strip_prefix("chat:{")?.split_once("}:room:")?;
    room.parse().ok().map(RoomId)
}

/// Reads a Redis URL.
///
/// Every connection made from it has TCP_NODELAY: the driver leaves it off, and small commands would wait for the other
/// side's delayed acknowledgement. And it is given up by the kernel when Redis acknowledges nothing for some seconds: the
/// driver keeps a connection whose answers stay out.
pub fn client(url: &str) -> RedisResult<Client> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(Duration::from_secs(1)).with_retries(3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(SILENCE * 2);
    Client::open(url.into_connection_info()?.set_tcp_settings(tcp))
}

/// A connection that many tasks share and that connects, and reconnects, by itself.
///
/// An outage shows as an error of each command given meanwhile.
pub fn shared_connection(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(COMMAND_TIMEOUT))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_max_delay(MAX_RECONNECT_PAUSE)
        .set_number_of_retries(1)
        .set_pipeline_buffer_size(PIPELINE_COMMANDS);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// Opens a connection for one reader that blocks for up to `longest_wait` in a command.
pub async fn blocking_connection(
    client: &Client,
    longest_wait: Duration,
) -> RedisResult<redis::aio::MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(longest_wait + COMMAND_TIMEOUT));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Warns of each setting of the server that breaks a promise, once it can be reached.
pub async fn warn_about_redis(mut connection: ConnectionManager, stop: CancellationToken) {
    loop {
        if let Ok(complaints) = check::complaints(&mut connection).await {
            for complaint in complaints {
                warn!("{complaint}");
            }
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MAX_RECONNECT_PAUSE) => {}
        }
    }
}

/// A pool for the rare commands, each checkout verified by a PING.
#[must_use]
pub fn pool(client: &Client) -> deadpool_redis::Pool {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(COMMAND_TIMEOUT));
    let manager = deadpool_redis::Manager::new_with_config(client.get_connection_info().clone(), config)
        .expect("a client's connection info was accepted before");
    deadpool_redis::Pool::builder(manager)
        .max_size(POOL_SIZE)
        .wait_timeout(Some(COMMAND_TIMEOUT))
        .create_timeout(Some(COMMAND_TIMEOUT))
        .recycle_timeout(Some(COMMAND_TIMEOUT))
        .runtime(deadpool_redis::Runtime::Tokio1)
        .build()
        .expect("time-outs are set together with a runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_read_back_from_its_channel() {
        let channel = room_channel(Partition(7), RoomId(42));
        assert_eq!(channel, "chat:{7}:room:42");
        assert_eq!(room_of_channel(&channel), Some(RoomId(42)));
        for other in ["chat:{7}:in", "roomcast:control", "chat:{7}:room:x", ""] {
            assert_eq!(room_of_channel(other), None);
        }
    }
}
