//! Kinds of events that have a name.

use shared::domain::Change;

/// Events that are not messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream is open.
    Ready,
    /// The cursor of the client could not be used; what the client has may be outdated.
    Reset,
    /// The stream is silent, and alive.
    Ping,
    /// The server ends the stream.
    Bye,
    /// A message has another text.
    Edit,
    /// A message is deleted.
    Delete,
    /// Somebody reacts to a message, or does not any longer.
    Reaction,
    /// Somebody is a member of the room, or no longer.
    Member,
    /// The room itself changed.
    Room,
    /// Rooms of the user are new, gone or otherwise another thing to them.
    Rooms,
    /// The user has read further, on whatever device.
    Read,
    /// Somebody is typing, or no longer.
    Typing,
    /// Somebody is online, or no longer.
    Presence,
}

impl Kind {
    /// That of a change.
    pub(super) fn of(change: &Change) -> Self {
        match change {
            Change::Edit { .. } => Self::Edit,
            Change::Delete { .. } => Self::Delete,
            Change::Reaction { .. } => Self::Reaction,
            Change::Member { .. } => Self::Member,
            Change::Room(_) => Self::Room,
        }
    }

    /// The name of its events.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Reset => "reset",
            Self::Ping => "ping",
            Self::Bye => "bye",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Reaction => "reaction",
            Self::Member => "member",
            Self::Room => "room",
            Self::Rooms => "rooms",
            Self::Read => "read",
            Self::Typing => "typing",
            Self::Presence => "presence",
        }
    }
}
