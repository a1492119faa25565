//! What a fault run leaves behind for the oracle: what clients did and saw, and what the database and Redis held.
//!
//! All times are durations since the run began, by one clock. Texts are kept as digests, so that a million messages fit
//! into memory; every text of the rig's traffic is unique, so its digest identifies the post.

mod changes;
mod log_entry;
mod members;
mod posts;
mod room_changes;
mod server_state;
mod streams;
mod user_streams;

use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

pub use self::changes::{ChangeOutcome, ChangeRequest, EditedRoom, EditedRooms, RequestedChange};
pub use self::log_entry::{EntryKind, LogEntry, MemberChange, ShownMessage, Target};
pub(crate) use self::log_entry::{created_private, names, reaction_counts, replied_to};
pub use self::members::{MembershipCall, RoomMembers};
pub use self::posts::{Digest, Message, Post, PostOutcome};
pub use self::room_changes::{Departure, Rejoin, RoomContents, RoomOperation, RoomResponse};
pub use self::server_state::{GatewayInterval, MemorySample, Position, Restore};
pub use self::streams::{ByeReason, FinalPosition, HistoryPage, PlainEntry, Received, Sequenced, StreamRecord};
pub(crate) use self::user_streams::rooms_of;
pub use self::user_streams::{
    ExistingRoom, FinalRooms, RoomNews, UserReceived, UserRecord, UserRoomCall, UserSource, UserStreams,
};

/// Everything the oracle judges by.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was posted.
    pub posts: Vec<Post>,
    /// Single tries of posts that took long until a response, an error, or the client's time-out.
    pub slow_posts: Vec<GatewayInterval>,
    /// When the rig itself kept clients from reaching a gateway.
    pub unreachable: Vec<GatewayInterval>,
    /// When a gateway could not learn who may still read: it did not reach the database, and another gateway, or it
    /// itself, did not reach Redis.
    pub unnotified: Vec<GatewayInterval>,
    /// When what gateways announce to each other could get lost: one of them was paused, or did not reach Redis.
    pub unannounced: Vec<Range<Duration>>,
    /// When the database was put back to a copy.
    pub restores: Vec<Restore>,
    /// Responses that must never come.
    pub unexpected_responses: Vec<String>,
    /// What streams showed.
    pub streams: Vec<StreamRecord<PlainEntry>>,
    /// How far each subscriber got.
    pub final_positions: Vec<FinalPosition>,
    /// Pages of history that were read while the run went on.
    pub history_pages: Vec<HistoryPage>,
    /// Users who left a room.
    pub departures: Vec<Departure>,
    /// Users who left a room and came back at once.
    pub rejoins: Vec<Rejoin>,
    /// What users did to their memberships.
    pub membership_calls: Vec<MembershipCall>,
    /// Who is in which room, of all rooms.
    pub room_members: Vec<RoomMembers>,
    /// Changes of members and rooms that were not in the logs when everything should have been.
    pub left_in_outbox: i64,
    /// Responses to room recreators, in the order in which each of them asked.
    pub room_responses: Vec<RoomResponse>,
    /// What is stored in the rooms of room recreators and rejoiners.
    pub room_contents: Vec<RoomContents>,
    /// The devices that follow all rooms of their user, and everything about them.
    pub user_streams: UserStreams,
    /// The rooms of editors, which have changes in their logs, and everything about them.
    pub edited: EditedRooms,
    /// The name of each room.
    pub room_names: Vec<String>,
    /// The history of each room over HTTP after the run, oldest first.
    pub history: Vec<Vec<Message>>,
    /// The same from the database.
    pub rows: Vec<Vec<Message>>,
    /// The other entries of each room, from the database, by seq.
    pub others: Vec<Vec<LogEntry>>,
    /// Positions of all partitions in the order in which they were seen.
    pub positions: Vec<Position>,
    /// Commits to a partition by another session than the one that had claimed it; SQLite does not know its clients.
    pub foreign_commits: Vec<String>,
    /// Messages that were acknowledged, and at that moment neither in the accept log nor in the database.
    pub missing_during_run: Vec<Uuid>,
    /// The most memory that each process used.
    pub memory: Vec<MemorySample>,
    /// Accepted entries that were set aside as dead letters.
    pub dead_letters: i64,
    /// How many of them the run itself put into the log as poison.
    pub poison: i64,
    /// Entries left in the accept log when everything should be stored.
    pub left_in_log: u64,
}

impl Evidence {
    /// The seq of the last entry of a room without edits.
    #[must_use]
    pub fn head(&self, room: usize) -> i64 {
        let message = self.history.get(room).and_then(|history| history.last()).map_or(0, |message| message.seq);
        let other = self.others.get(room).and_then(|others| others.last()).map_or(0, |entry| entry.seq);
        message.max(other)
    }

    /// Whether the rig itself kept clients from reaching `gateway` at some time between the two.
    #[must_use]
    pub fn was_unreachable(&self, gateway: usize, from: Duration, until: Duration) -> bool {
        self.unreachable.iter().any(|interval| interval.overlaps(gateway, from, until))
    }

    /// Whether `gateway` could not learn at some time between the two that somebody may no longer read.
    #[must_use]
    pub fn was_unnotified(&self, gateway: usize, from: Duration, until: Duration) -> bool {
        self.unnotified.iter().any(|interval| interval.overlaps(gateway, from, until))
    }

    /// Whether something that gateways announced at some time between the two may not have reached all of them.
    #[must_use]
    pub fn was_unannounced(&self, from: Duration, until: Duration) -> bool {
        self.unannounced.iter().any(|interval| interval.start <= until && from <= interval.end)
    }

    /// Whether a message that was shown at that time may be gone from its position, because the database was restored.
    #[must_use]
    pub fn is_undone(&self, id: Uuid, at: Duration) -> bool {
        self.restores.iter().any(|restore| at < restore.until && restore.undone.contains(&id))
    }

    /// Whether a message that was acknowledged at that time may be gone altogether.
    #[must_use]
    pub fn is_lost(&self, id: Uuid, at: Duration) -> bool {
        self.restores.iter().any(|restore| at < restore.until && restore.lost.contains(&id))
    }

    /// Whether a change that was acknowledged at that time, or an entry that was received then, may be gone from its position:
    /// the database was restored to a copy from before.
    #[must_use]
    pub fn is_change_undone(&self, at: Duration) -> bool {
        self.restores.iter().any(|restore| restore.copied <= at && at < restore.until)
    }
}
