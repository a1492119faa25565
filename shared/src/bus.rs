//! Redis as the two processes share it: key names, the form of entries and events, and how to connect.
//!
//! ```text
//! chat:{7}:in        stream           the accept log of partition 7: gateways append, its worker reads and trims
//! chat:{7}:room:42   sharded channel  what was stored in room 42, published after the commit
//! roomcast:control   channel          what all gateways must hear of
//! roomcast:workers   sorted set       the living workers; each also listens to a channel of its own
//! ```
//!
//! The braces are a hash tag: on a Redis Cluster everything of one partition lives on one server, and what is said on a
//! room's channel reaches that server alone. So rooms use sharded publishing (`SPUBLISH`) everywhere, also on a single
//! server, where it is the same. Every command names keys of one slot only; [`Link`] splits pipelines.

mod access;
mod address;
mod check;
mod control;
mod entry;
mod event;
mod findings;
mod handle;
mod lane;
mod link;
mod map;
mod pool;
mod receipt;
mod refusal;
mod sentinel;
mod slots;

use std::time::Duration;

pub use address::{InvalidAddress, Node};
pub use check::{Looked, Unsafe};
pub use control::{Acknowledgement, CONTROL_CHANNEL, ControlEvent, ControlMessage, ReplyTo, acknowledgements_channel};
pub use entry::{InvalidEntry, decode_entry, encode_entry};
pub use event::{InvalidEvent, RoomEvent};
pub use handle::{Holder, InvalidRedis, Redis};
pub use link::Link;
pub use map::Changes;
pub use pool::Pool;
pub use receipt::{Receipts, receipts_channel};
pub use refusal::is_refusal;

use crate::domain::{Partition, RoomId};

/// The living workers: a sorted set of their names, each with the time at which its place runs out, in milliseconds of
/// Redis's clock. It expires with the last of them, so that it exists only while some worker lives.
pub const WORKERS: &str = "roomcast:workers";

/// The sharded channel that the worker called `name` subscribes to for as long as it is connected. Nothing is said on it;
/// its hash tag puts it in the slot of [`WORKERS`], so that a script which looks at the set can count who listens.
#[must_use]
pub fn presence_channel(name: &str) -> String {
    format!("roomcast:present:{{{WORKERS}}}:{name}")
}

/// How long a command may take before its outcome counts as unknown.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest pause between two attempts to reconnect.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);

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

/// Whether a channel is subscribed to with `SSUBSCRIBE` at the server of its slot, and not with `SUBSCRIBE` at any.
#[must_use]
pub fn is_sharded(channel: &str) -> bool {
    room_of_channel(channel).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compose_file_asks_for_the_key_by_which_workers_are_seen() {
        let compose = include_str!("../../deploy/compose.yml");
        assert!(compose.contains(&format!("EXISTS {WORKERS}\\r")), "deploy/compose.yml asks for another key");
    }

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
