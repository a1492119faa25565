//! What users did to rooms and memberships, and what the server said to it.

use std::time::Duration;

use uuid::Uuid;

use super::streams::ByeReason;

/// A user who left a room while a stream was open.
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    /// Number of the room.
    pub room: usize,
    /// Number of the gateway that served the stream.
    pub gateway: usize,
    /// When leaving was acknowledged.
    pub left: Duration,
    /// When the last message came.
    pub last_received: Option<Duration>,
    /// When the stream ended; `None` if it was still open when the observer gave up.
    pub ended: Option<Duration>,
    /// When the observer stopped watching.
    pub watched_until: Duration,
    /// The reason the gateway gave for the end.
    pub bye: Option<ByeReason>,
}

/// A user who left a room and came back to it at once, by a post or by a stream.
#[derive(Debug, Clone)]
pub struct Rejoin {
    /// Name of the room.
    pub room: String,
    /// When leaving was acknowledged.
    pub left: Duration,
    /// What was posted on coming back, if something was.
    pub posted: Option<Uuid>,
    /// Whether the list of members had the user then; `None` if the list could not be read.
    pub is_listed: Option<bool>,
    /// Why their stream was ended before they left again, if it was.
    pub ended: Option<ByeReason>,
}

/// What a room recreator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomOperation {
    /// To create the room.
    Create,
    /// To delete it.
    Delete,
    /// To see it.
    Get,
    /// To post to it.
    Post,
}

/// A response to a room recreator, who asks one thing after the other.
#[derive(Debug, Clone)]
pub struct RoomResponse {
    /// Name of the room, which is one recreator's alone.
    pub room: String,
    /// What was asked for.
    pub operation: RoomOperation,
    /// The status of the response.
    pub status: u16,
    /// The id of what was posted.
    pub id: Option<Uuid>,
    /// When it came.
    pub at: Duration,
}

/// What the database holds for one of the rooms that had a name.
#[derive(Debug, Clone)]
pub struct RoomContents {
    /// The name.
    pub room: String,
    /// How many rooms had the name before.
    pub incarnation: i64,
    /// Its messages.
    pub messages: Vec<Uuid>,
}
