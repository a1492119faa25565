//! Rooms whose messages are edited, deleted and reacted to: what editors asked for, what followers received, and what is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::log_entry::LogEntry;
use super::posts::{Digest, Post};
use super::streams::{FinalPosition, StreamRecord};

/// All of it. Rooms, editors and followers have numbers of their own here.
#[derive(Debug, Clone, Default)]
pub struct EditedRooms {
    /// The name of each room.
    pub names: Vec<String>,
    /// The messages that editors posted.
    pub posts: Vec<Post>,
    /// What they wanted to change, in the order in which each of them did.
    pub changes: Vec<RequestedChange>,
    /// What streams showed, in the order in which each follower had them. The subscriber is the follower.
    ///
    /// A follower that resumes at an earlier position than its last one has forgotten what came after that. It does the same
    /// at a `reset`, forgets everything, and resumes at position 0 of the new epoch.
    pub streams: Vec<StreamRecord<LogEntry>>,
    /// How far each follower got.
    pub final_positions: Vec<FinalPosition>,
    /// What the rooms held at the end.
    pub contents: Vec<EditedRoom>,
}

impl EditedRooms {
    /// How much there was of it, as a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let is_acknowledged = |change: &&RequestedChange| change.outcome == ChangeOutcome::Acknowledged;
        let changes = self.changes.iter().filter(is_acknowledged).count();
        let received: usize = self.streams.iter().map(|stream| stream.received.len()).sum();
        let replies = self.posts.iter().filter(|post| post.reply_to.is_some()).count();
        let repeated = self.changes.iter().filter(|change| change.unknown_tries > 0).count();
        format!(
            "{changes} changes of messages acknowledged, {repeated} repeated, {replies} replies, {received} entries of their logs received"
        )
    }
}

impl EditedRoom {
    /// The seq of the last entry.
    #[must_use]
    pub fn head(&self) -> i64 {
        self.log.last().map_or(0, |entry| entry.seq)
    }
}

/// What an editor wants of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeRequest {
    /// Another text.
    Edit(Digest),
    /// To delete it.
    Delete,
    /// To react to it, or to take that back.
    React {
        /// With what.
        emoji: String,
        /// Whether the reaction is added.
        on: bool,
    },
}

/// How a change ended for the editor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// It was made.
    Acknowledged,
    /// It was refused: the message is deleted.
    Deleted,
    /// It was refused: the room has no such message.
    NotFound,
    /// The editor has given up without knowing.
    Unknown,
}

/// One change that an editor wanted, however often it asked. Only one editor changes the text of a message, and only one
/// its reactions; each does one thing after the other.
#[derive(Debug, Clone)]
pub struct RequestedChange {
    /// Number of the room.
    pub room: usize,
    /// Name of the editor.
    pub username: String,
    /// The message.
    pub target: Uuid,
    /// What was asked for.
    pub request: ChangeRequest,
    /// When the first try was sent.
    pub sent: Duration,
    /// When the outcome was known, or the editor gave up.
    pub settled: Duration,
    /// How it ended.
    pub outcome: ChangeOutcome,
    /// Tries after which the editor could not know what had happened.
    pub unknown_tries: u32,
}

/// What a room held at the end.
#[derive(Debug, Clone, Default)]
pub struct EditedRoom {
    /// Its messages over HTTP, oldest first.
    pub history: Vec<LogEntry>,
    /// Its whole log from the database, by seq: messages as they are now, and changes.
    pub log: Vec<LogEntry>,
    /// Who reacts to which message, by its seq, with what, from the database.
    pub reactions: BTreeSet<(i64, String, String)>,
    /// Names of its members, from the database.
    pub members: BTreeSet<String>,
}
