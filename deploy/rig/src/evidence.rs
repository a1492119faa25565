//! What a run leaves behind for the oracle: what clients did and saw, and what the database and Redis held.
//!
//! All times are durations since the run began, by one clock. Texts are kept as digests, so that a million messages fit
//! into memory; every text of the rig's traffic is unique, so its digest names the post.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::Event;

/// Stands for a text, or for a whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(u64);

impl Digest {
    /// The digest of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// How a post ended for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 204 with this id.
    Acknowledged(Uuid),
    /// Every try was answered in a way that means: nothing was done.
    Refused,
    /// No answer, or one that leaves it open, and the client has given up.
    Unknown,
}

/// One message that a client wanted to post, however often it tried.
#[derive(Debug, Clone)]
pub struct Post {
    /// Number of the room.
    pub room: usize,
    /// Number of the sender; each posts one message after the other.
    pub sender: usize,
    /// Number of the message among the sender's.
    pub number: u32,
    /// The text.
    pub text: Digest,
    /// When the first try was sent.
    pub sent: Duration,
    /// When the outcome was known, or given up.
    pub settled: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Tries after which it was open what had happened.
    pub unknown_tries: u32,
}

/// A message as history, a stream or the database shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Place in the room.
    pub seq: i64,
    /// Identity.
    pub id: Uuid,
    /// The text.
    pub text: Digest,
}

impl Shown {
    /// Reads the message object of the contract; `None` if it is not one.
    #[must_use]
    pub fn read(message: &Value) -> Option<Self> {
        Some(Self {
            seq: message["seq"].as_i64()?,
            id: message["id"].as_str()?.parse().ok()?,
            text: Digest::of(message["message"].as_str()?),
        })
    }
}

/// A message that came over a stream.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// What came.
    pub shown: Shown,
    /// The seq in the event's id.
    pub cursor: i64,
    /// When.
    pub at: Duration,
}

/// One stream of a phone, from its `ready` to its end.
#[derive(Debug, Clone)]
pub struct Session {
    /// Number of the phone.
    pub phone: usize,
    /// Number of the room.
    pub room: usize,
    /// Number of the gateway.
    pub gateway: usize,
    /// The last seq the phone had, if it sent one as `Last-Event-ID`.
    pub resumed_after: Option<i64>,
    /// The epoch of that seq.
    pub resumed_epoch: Option<u64>,
    /// The position that `ready` named.
    pub ready: i64,
    /// The epoch that `ready` named.
    pub epoch: u64,
    /// The head that a `reset` named, if one came.
    pub reset: Option<i64>,
    /// The messages, as they came.
    pub heard: Vec<Heard>,
    /// Events that no gateway may send, as they came.
    pub strange: Vec<String>,
    /// When `ready` came.
    pub opened: Duration,
    /// Why the gateway ended it, if it did.
    pub bye: Option<Bye>,
}

/// Why a gateway ended a stream, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bye {
    /// The user is no longer in the room.
    Removed,
    /// The session was ended.
    Revoked,
    /// The gateway stops.
    Shutdown,
    /// A new epoch has begun.
    HistoryChanged,
    /// Anything else.
    Other,
}

impl Bye {
    /// Reads a `bye`; `None` if the event is another one.
    #[must_use]
    pub fn read(event: &Event) -> Option<Self> {
        let reason = (event.name == "bye").then(|| event.json().ok().map(|data| data["reason"].clone()));
        reason.map(|reason| match reason.as_ref().and_then(Value::as_str) {
            Some("removed") => Self::Removed,
            Some("revoked") => Self::Revoked,
            Some("shutdown") => Self::Shutdown,
            Some("history_changed") => Self::HistoryChanged,
            _ => Self::Other,
        })
    }
}

/// What a phone had when the run was over.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Number of the phone.
    pub phone: usize,
    /// Number of the room.
    pub room: usize,
    /// The last seq it saw, or started from.
    pub last: i64,
}

/// A page of history that was read while the run went on.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Number of the room.
    pub room: usize,
    /// The messages, newest first.
    pub page: Vec<Shown>,
    /// When it was read.
    pub at: Duration,
}

/// Somebody who left a room while a stream was open.
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    /// Number of the room.
    pub room: usize,
    /// Number of the gateway that served the stream.
    pub gateway: usize,
    /// When leaving was acknowledged.
    pub left: Duration,
    /// When the last message came.
    pub last_heard: Option<Duration>,
    /// When the stream ended; `None` if it still stood when the observer gave up.
    pub ended: Option<Duration>,
    /// When the observer stopped watching.
    pub watched_until: Duration,
    /// Why the gateway said that it ended.
    pub bye: Option<Bye>,
}

/// Somebody who left a room and came back to it at once, by a post or by a stream.
#[derive(Debug, Clone)]
pub struct Return {
    /// Name of the room.
    pub room: String,
    /// When leaving was acknowledged.
    pub left: Duration,
    /// What was posted on coming back, if something was.
    pub posted: Option<Uuid>,
    /// Whether the list of members had them then; `None` if nobody could be asked.
    pub is_listed: Option<bool>,
    /// Why their stream was ended before they left again, if it was.
    pub ended: Option<Bye>,
}

/// What a landlord asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// To make the room.
    Create,
    /// To delete it.
    Delete,
    /// To see it.
    Look,
    /// To post to it.
    Post,
}

/// An answer to a landlord, who asks one thing after the other.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Name of the room, which is one landlord's alone.
    pub room: String,
    /// What was asked for.
    pub deed: Deed,
    /// The status of the answer.
    pub status: u16,
    /// The id of what was posted.
    pub id: Option<Uuid>,
    /// When it came.
    pub at: Duration,
}

/// What the database holds for one of the rooms of a name.
#[derive(Debug, Clone)]
pub struct Lodge {
    /// The name.
    pub room: String,
    /// How many rooms had the name before.
    pub incarnation: i64,
    /// Its messages.
    pub messages: Vec<Uuid>,
}

/// A try of a post that took long, or a time in which a gateway could hardly be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hang {
    /// Number of the gateway.
    pub gateway: usize,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
}

/// The database was put back to a copy of it.
#[derive(Debug, Clone, Default)]
pub struct Restore {
    /// From when nobody served.
    pub from: Duration,
    /// From when every gateway served the new epoch.
    pub until: Duration,
    /// What was stored before, and is not in the copy.
    pub undone: HashSet<Uuid>,
    /// What of it was not in the accept log any more: the rest is stored again, perhaps in other places.
    pub lost: HashSet<Uuid>,
}

/// One look at the table of cursors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i64,
    /// The read position in the accept log.
    pub cursor: (i64, i64),
    /// The number of the ownership.
    pub fence: i64,
    /// The worker that owns it.
    pub owner: String,
}

/// Resident memory of a process, or used memory of Redis, in KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySample {
    /// Which process.
    pub process: String,
    /// How much.
    pub kib: u64,
}

/// Everything the oracle looks at.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was posted.
    pub posts: Vec<Post>,
    /// Tries that took long until an answer or an error, or until the client had enough of it.
    pub hangs: Vec<Hang>,
    /// When the rig itself kept a gateway's clients in the dark.
    pub dark_doors: Vec<Hang>,
    /// When a gateway could not be told who may still read: it did not reach the database, and another one, or itself, did not
    /// reach Redis.
    pub untold: Vec<Hang>,
    /// When the database was put back to a copy.
    pub restores: Vec<Restore>,
    /// Answers that should never come.
    pub unexpected: Vec<String>,
    /// What streams showed.
    pub sessions: Vec<Session>,
    /// How far each phone came.
    pub arrivals: Vec<Arrival>,
    /// History read meanwhile.
    pub readings: Vec<Reading>,
    /// Who left.
    pub departures: Vec<Departure>,
    /// Who left and came back.
    pub returns: Vec<Return>,
    /// What landlords were answered, in the order of each.
    pub answered: Vec<Answered>,
    /// What is stored in the rooms of landlords and of those who come back.
    pub lodges: Vec<Lodge>,
    /// The history of each room over HTTP afterwards, oldest first.
    pub history: Vec<Vec<Shown>>,
    /// The same from the database.
    pub rows: Vec<Vec<Shown>>,
    /// Positions as they were seen one after the other, of all partitions.
    pub positions: Vec<Position>,
    /// Commits to a partition by another session than the one that had claimed it; nobody can tell with SQLite.
    pub foreign_commits: Vec<String>,
    /// Messages that were acknowledged, and at that moment neither in the accept log nor in the database.
    pub missing_between: Vec<Uuid>,
    /// Memory at its highest.
    pub memory: Vec<MemorySample>,
    /// Accepted entries that were set aside.
    pub dead_letters: i64,
    /// How many of them the run itself put there, as poison.
    pub poison: i64,
    /// Entries left in the accept log when all was stored.
    pub left_in_log: u64,
}

impl Evidence {
    /// Whether the rig itself kept the clients of `gateway` in the dark at some time between the two.
    #[must_use]
    pub fn was_dark(&self, gateway: usize, from: Duration, until: Duration) -> bool {
        self.dark_doors.iter().any(|dark| dark.overlaps(gateway, from, until))
    }

    /// Whether a message that was shown at that time may be gone from its place, since the database was put back.
    #[must_use]
    pub fn is_undone(&self, id: Uuid, at: Duration) -> bool {
        self.restores.iter().any(|restore| at < restore.until && restore.undone.contains(&id))
    }

    /// Whether a message that was acknowledged at that time may be gone altogether.
    #[must_use]
    pub fn is_lost(&self, id: Uuid, at: Duration) -> bool {
        self.restores.iter().any(|restore| at < restore.until && restore.lost.contains(&id))
    }

    /// Whether nobody could tell `gateway` at some time between the two that somebody may no longer read.
    #[must_use]
    pub fn was_untold(&self, gateway: usize, from: Duration, until: Duration) -> bool {
        self.untold.iter().any(|untold| untold.overlaps(gateway, from, until))
    }
}

impl Hang {
    fn overlaps(&self, gateway: usize, from: Duration, until: Duration) -> bool {
        self.gateway == gateway && self.from < until && from < self.until
    }
}
