//! Redis as the two processes share it: key names, the form of entries and events, and how to connect.
//!
//! [`KeySpace`] makes every name, [`RedisClient`] carries commands to the server of their keys.

mod address;
mod client;
mod connection_factory;
mod connector;
mod control;
mod diagnostics;
mod entry;
mod errors;
mod event;
mod key_space;
mod mac;
mod pipeline;
mod pool;
mod preflight;
mod receipt;
mod sentinel;
mod slots;
mod topology;
mod watermark;

use std::time::Duration;

pub use address::{InvalidAddress, Node};
pub use client::RedisClient;
pub use connector::{InvalidRedisSettings, PartitionConnections, RedisConnector};
pub use control::{Acknowledgement, ControlEvent, ControlMessage, ReplyTo};
pub use entry::{InvalidEntry, decode_entry, decode_unverified_entry, encode_entry};
pub use errors::is_refusal;
pub use event::RoomEvent;
pub use key_space::KeySpace;
pub use mac::{InvalidMacKey, InvalidPublication, MacKey, NotAuthentic};
pub use pool::Pool;
pub use preflight::{PreflightError, PreflightReport};
pub use receipt::Receipts;
pub use topology::TopologyWatch;
pub use watermark::StoredWatermark;

/// How long a command may take before its outcome counts as unknown.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest pause between two attempts to reconnect.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);
