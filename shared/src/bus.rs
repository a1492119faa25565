//! Redis as both binaries share it: the names of keys and channels, the encoding of entries and events, and the connections.
//!
//! ```text
//!            RedisArgs ──► RedisConnector ──┬─► RedisClient            shared, routes each command to the server of its key
//!                              │            ├─► Pool                   for the rare commands without a key
//!                        preflight check    ├─► PartitionConnections   for the one reader of a partition
//!                              │            └─► a connection for pushes (subscriptions)
//!                          Topology: which server owns which slot
//! ```
//!
//! [`KeySpace`] makes every name. Whatever is read from Redis ends with a message authentication code, which
//! [`decode_entry`] and the `decode` of each event check.

mod address;
mod client;
mod command_keys;
mod connection_factory;
mod connector;
mod control_event;
mod diagnostics;
mod entry;
mod errors;
mod key_space;
mod mac;
mod pipeline;
mod pool;
mod preflight;
mod receipt;
mod room_event;
mod sentinel;
mod slots;
mod topology;
mod watermark;

use std::time::Duration;

pub use address::{InvalidAddress, Node};
pub use client::RedisClient;
pub use connector::{InvalidRedisSettings, PartitionConnections, RedisConnector};
pub use control_event::{Acknowledgement, ControlEvent, ControlMessage, ReplyTo};
pub use entry::{
    InvalidEntry, decode_entry, decode_unverified_entry, encode_change, encode_command, encode_message,
    encode_outbox_hint,
};
pub use errors::is_refusal;
pub use key_space::KeySpace;
pub use mac::{InvalidMacKey, InvalidPublication, MacKey, NotAuthentic};
pub use pool::Pool;
pub use preflight::{PreflightError, PreflightReport};
pub use receipt::Receipts;
pub use room_event::{RoomEvent, TypingNotice};
pub use topology::TopologyWatch;
pub use watermark::StoredWatermark;

/// How long a command may take before its outcome counts as unknown.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest pause between two attempts to reconnect.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);
