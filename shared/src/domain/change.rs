//! Changes: what happens in a room beside new messages, as it is accepted and as it is stored.
//!
//! Changes of messages are accepted in the accept log, as messages are. Those of members and of the room take effect in SQL at
//! once, without a worker; the same transaction puts them into the outbox, from which the worker takes them into the log.
//!
//! A room has one log. Each entry of it has the next seq, and is either a message or a change: [`RoomEntry`]. The kinds of changes
//! are closed enums, and no code has a default for them: a new kind is a compile error wherever somebody must decide about it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Accepted, Emoji, GatewayId, MessageId, MessageText, RoomId, Seq, StoredMessage, Timestamp, UserId};

/// A change that was accepted and is not decided yet: an entry of the accept log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedChange {
    /// Its id, by which a repeated entry is recognised and a receipt finds who waits.
    pub id: MessageId,
    /// The room.
    pub room: RoomId,
    /// Who wants it.
    pub sender: UserId,
    /// When the gateway accepted it.
    pub created_on: Timestamp,
    /// The gateway that waits for the outcome, if one does.
    pub receipt_to: Option<GatewayId>,
    /// The message that is to be changed.
    pub target: MessageId,
    /// What is to be changed.
    pub request: ChangeRequest,
}

impl AcceptedChange {
    /// Its named fields, by which it travels and is kept: all but who waits for the outcome. None is called `text`, so that a
    /// worker of a version without changes finds no text in it, and sets it aside instead of taking it for a message.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let flag = |is_set| if is_set { "1" } else { "0" };
        let mut fields: Vec<(&'static str, Cow<'_, str>)> = Vec::with_capacity(10);
        fields.extend([
            ("id", self.id.to_string().into()),
            ("room", self.room.0.to_string().into()),
            ("sender", self.sender.0.to_string().into()),
            ("at", self.created_on.0.to_string().into()),
            ("target", self.target.to_string().into()),
            ("kind", self.request.kind().into()),
        ]);
        match &self.request {
            ChangeRequest::Edit { text, oldest } => {
                fields.extend([
                    ("new_text", text.as_str().into()),
                    ("oldest", oldest.0.to_string().into()),
                ]);
            }
            ChangeRequest::Delete { as_moderator } => fields.push(("as_moderator", flag(*as_moderator).into())),
            ChangeRequest::React { emoji, on } => {
                fields.extend([("emoji", emoji.as_str().into()), ("on", flag(*on).into())]);
            }
        }
        fields
    }
}

/// What was accepted: an entry of the accept log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A new message.
    Message(Accepted),
    /// A change of a message.
    Change(AcceptedChange),
    /// A hint that the outbox in SQL has rows.
    Outbox(OutboxHint),
}

impl Command {
    /// The room that it is for.
    #[must_use]
    pub fn room(&self) -> RoomId {
        match self {
            Self::Message(message) => message.room,
            Self::Change(change) => change.room,
            Self::Outbox(hint) => hint.room,
        }
    }
}

/// A hint that the outbox in SQL has rows which are to become entries of the log, here: after what was accepted before. Without
/// one they are found a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxHint {
    /// The room that the rows are about.
    pub room: RoomId,
    /// The id of the last row. What was accepted before that row was written stands before the hint in the accept log; so a
    /// member's last messages come before the entry of their leaving.
    pub upto: i64,
}

/// What somebody wants to change of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeRequest {
    /// Replace its text.
    Edit {
        /// The new text.
        text: MessageText,
        /// Messages from before this time are too old to be edited.
        oldest: Timestamp,
    },
    /// Delete it.
    Delete {
        /// The gateway found that the sender may delete messages of others in this room.
        as_moderator: bool,
    },
    /// Add a reaction of the sender, or remove it.
    React {
        /// Which.
        emoji: Emoji,
        /// Whether it is added.
        on: bool,
    },
}

impl ChangeRequest {
    /// The value of the field `kind` of an edit.
    pub const EDIT: &str = "edit";
    /// The value of the field `kind` of a deletion.
    pub const DELETE: &str = "delete";
    /// The value of the field `kind` of a reaction.
    pub const REACT: &str = "react";

    fn kind(&self) -> &'static str {
        match self {
            Self::Edit { .. } => Self::EDIT,
            Self::Delete { .. } => Self::DELETE,
            Self::React { .. } => Self::REACT,
        }
    }
}

/// Why a change was refused when it came to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The room has no such message.
    NoSuchMessage,
    /// The message that is replied to is not in the room, or is deleted.
    NoSuchReply,
    /// The sender may not do this to this message.
    Forbidden,
    /// The message is deleted.
    Deleted,
    /// The message is too old to be edited.
    EditWindowClosed,
    /// The message has as many kinds of reactions as it may have.
    TooManyReactions,
}

/// What became of an entry of the accept log. In JSON it is the seq as a number, or the refusal as a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// It is stored under this seq, or changes nothing and this is the seq of the message.
    Stored(Seq),
    /// It was refused, and changes nothing.
    Refused(Refusal),
}

/// A change in the log of a room.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredChange {
    /// Position in the room.
    pub seq: Seq,
    /// Name of the user who did it.
    pub username: String,
    /// Public id of that user.
    pub public_id: String,
    /// When the gateway accepted it.
    pub created_on: Timestamp,
    /// What it changed.
    #[serde(flatten)]
    pub change: Change,
}

/// What a stored change changed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A message has another text.
    Edit {
        /// The message.
        target: MessageId,
        /// Its seq.
        target_seq: Seq,
        /// The text: the new one when the change is published, today's when it is read later, nothing if the message is
        /// deleted since.
        text: String,
    },
    /// A message is deleted.
    Delete {
        /// The message.
        target: MessageId,
        /// Its seq.
        target_seq: Seq,
    },
    /// A reaction of the user was added to a message, or removed.
    Reaction {
        /// The message.
        target: MessageId,
        /// Its seq.
        target_seq: Seq,
        /// Which.
        emoji: Emoji,
        /// Whether it was added.
        on: bool,
        /// How many users react to the message with it since.
        count: u32,
    },
    /// Somebody is a member of the room from now on, or no longer.
    Member {
        /// Name of the user whom it is about.
        member: String,
        /// What changed.
        #[serde(flatten)]
        change: MemberChange,
    },
    /// The room itself changed.
    Room(RoomChange),
}

impl Change {
    /// Whether it alters what a message holds, so that copies of the message are out of date.
    #[must_use]
    pub fn alters_message(&self) -> bool {
        match self {
            Self::Edit { .. } | Self::Delete { .. } | Self::Reaction { .. } => true,
            Self::Member { .. } | Self::Room(_) => false,
        }
    }
}

/// What changed about a member. SQL keeps it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum MemberChange {
    /// They are a member.
    Joined {
        /// What they may do.
        role: MemberRole,
    },
    /// They left.
    Left,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Everything: the user who created the room.
    Owner,
    /// Read and post.
    Member,
}

impl MemberRole {
    /// As it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }
}

/// What changed about a room. SQL keeps it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum RoomChange {
    /// It was created, with its creator as the first member.
    Created {
        /// Whether only members see it.
        private: bool,
    },
}

/// An entry of a room's log.
#[derive(Clone, PartialEq, Eq)]
pub enum RoomEntry {
    /// A message.
    Message(StoredMessage),
    /// Anything else.
    Change(StoredChange),
}

impl RoomEntry {
    /// Its position in the room.
    #[must_use]
    pub fn seq(&self) -> Seq {
        match self {
            Self::Message(message) => message.seq,
            Self::Change(change) => change.seq,
        }
    }
}
