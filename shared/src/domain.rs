//! Domain types. A value of such a type was parsed, so it is valid. Nothing here does I/O.

mod change;
mod cursor;
mod emoji;
mod ids;
mod message;
mod notify;
mod partition;
mod room;
mod search;
mod text;
mod time;
mod user;

use std::borrow::Cow;

pub use change::{
    AcceptedChange, Change, ChangeRequest, Command, MemberChange, MemberRole, OutboxHint, Outcome, Refusal, RoomChange,
    RoomEntry, StoredChange,
};
pub use cursor::{Epoch, InvalidCursor, StreamCursor};
pub use emoji::Emoji;
pub use ids::{
    GatewayId, InstallationId, InvalidInstallationId, MembershipId, MessageId, Position, RemovalCount, RoomId,
    RoomsVersion, Seq, SessionId, StreamKey, UserId, parse_uuid,
};
pub use message::{Accepted, IdempotencyKey, MESSAGE_KIND, MessageExtra, MessageText, ReactionCount, StoredMessage};
pub use notify::{InvalidNotifyLevel, Notify, NotifyLevel};
pub use partition::{Fence, LogEntryId, Partition};
pub use room::{InvalidRoomKind, RoomKind, RoomName};
pub use search::{SearchQuery, Words};
pub use text::normal_password;
pub use time::Timestamp;
pub use user::{Email, PublicId, Username};

/// Why a value from a client was refused, in terms that the client can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// The field, as the API spells it.
    pub field: Cow<'static, str>,
    /// Stable snake_case reason, such as `too_long`.
    pub code: &'static str,
    /// One English sentence.
    pub message: String,
}

impl Invalid {
    /// Refuses `field` for the reason `code`.
    pub fn new(field: impl Into<Cow<'static, str>>, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            code,
            message: message.into(),
        }
    }
}

/// Checks that `raw` has between `min` and `max` characters (Unicode scalar values, not bytes).
fn check_length(field: &'static str, raw: &str, min: usize, max: usize) -> Result<(), Invalid> {
    // A character has at most four bytes, so a much too long value is refused without counting.
    let length = if raw.len() > max * 4 {
        usize::MAX
    } else {
        raw.chars().count()
    };
    if length < min {
        let message = format!("Must have at least {min} character(s).");
        return Err(Invalid::new(field, "too_short", message));
    }
    if length > max {
        let message = format!("Must have at most {max} characters.");
        return Err(Invalid::new(field, "too_long", message));
    }
    Ok(())
}
