//! Who is in which room: what users asked for, and what the database holds.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::log_entry::LogEntry;

/// A call by which a user becomes a member of a room, or is one no longer. Each user of whom there are calls makes one after the
/// other, and all that they make are recorded in their order.
#[derive(Debug, Clone)]
pub struct MembershipCall {
    /// Name of the room.
    pub room: String,
    /// Name of the user.
    pub username: String,
    /// Whether they are a member after it.
    pub joins: bool,
    /// What was posted, if the call was that and was acknowledged.
    pub posted: Option<Uuid>,
    /// When its outcome was known, or the user gave up.
    pub settled: Duration,
    /// Whether it certainly took effect.
    pub is_acknowledged: bool,
    /// Tries after which the user could not know what had happened. Each may take effect later, or never.
    pub unknown_tries: u32,
}

/// Who is in a room, by its log and by the table.
#[derive(Debug, Clone, Default)]
pub struct RoomMembers {
    /// Name of the room.
    pub room: String,
    /// How many rooms had the name before.
    pub incarnation: i64,
    /// Name of its owner.
    pub owner: String,
    /// Entries of its log about members and the room itself, by seq.
    pub log: Vec<LogEntry>,
    /// Names of those whom the table has.
    pub members: BTreeSet<String>,
    /// The seqs of its messages, where users post who leave and come back.
    pub messages: HashMap<Uuid, i64>,
}
