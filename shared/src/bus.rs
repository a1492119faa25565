//! Redis as the two processes share it: key names, the form of entries and events, and how to connect.
//!
//! [`Keys`] makes every name, [`Link`] carries commands to the server of their keys.

mod access;
mod address;
mod check;
mod control;
mod entry;
mod event;
mod findings;
mod handle;
mod keys;
mod lane;
mod link;
mod mac;
mod map;
mod pool;
mod receipt;
mod refusal;
mod sentinel;
mod slots;
mod stored;

use std::time::Duration;

pub use address::{InvalidAddress, Node};
pub use check::{Looked, Unsafe};
pub use control::{Acknowledgement, ControlEvent, ControlMessage, ReplyTo};
pub use entry::{InvalidEntry, decode_entry, encode_entry, read_entry};
pub use event::RoomEvent;
pub use handle::{Holder, InvalidRedis, Redis};
pub use keys::Keys;
pub use link::Link;
pub use mac::{InvalidMacKey, MacKey, NotAuthentic, Unreadable};
pub use map::Changes;
pub use pool::Pool;
pub use receipt::Receipts;
pub use refusal::is_refusal;
pub use stored::StoredPosition;

/// How long a command may take before its outcome counts as unknown.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest pause between two attempts to reconnect.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);
