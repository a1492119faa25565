//! The objects of changes on the stream, as the contract spells them.

use poem_openapi::Object;
use serde::Serialize;
use shared::domain::{Change, MessageId, StoredChange};

use crate::json;
use crate::message_json::Time;

/// Data of the event `edit`: a message has another text.
#[derive(Clone, Object, Serialize)]
pub struct EditEvent {
    /// Number in the room, of the change itself.
    pub seq: i64,
    /// Name of the room.
    pub name: String,
    /// Name of the user who edited it.
    pub username: String,
    /// Public id of that user.
    pub public_id: String,
    /// When it was edited: RFC 3339, UTC, milliseconds.
    pub created_on: String,
    /// Id of the message.
    pub target: String,
    /// Number of the message in the room.
    pub target_seq: i64,
    /// Its text; empty if the message was deleted since.
    pub message: String,
    /// The same time as `created_on`, as the message object has it.
    pub edited_on: String,
}

/// Data of the event `delete`: a message is deleted, and its text gone.
#[derive(Clone, Object, Serialize)]
pub struct DeleteEvent {
    /// Number in the room, of the change itself.
    pub seq: i64,
    /// Name of the room.
    pub name: String,
    /// Name of the user who deleted it.
    pub username: String,
    /// Public id of that user.
    pub public_id: String,
    /// When it was deleted: RFC 3339, UTC, milliseconds.
    pub created_on: String,
    /// Id of the message.
    pub target: String,
    /// Number of the message in the room.
    pub target_seq: i64,
}

/// Data of the event `reaction`: a user reacts to a message, or does not any longer.
#[derive(Clone, Object, Serialize)]
pub struct ReactionEvent {
    /// Number in the room, of the change itself.
    pub seq: i64,
    /// Name of the room.
    pub name: String,
    /// Name of the user.
    pub username: String,
    /// Public id of the user.
    pub public_id: String,
    /// When it happened: RFC 3339, UTC, milliseconds.
    pub created_on: String,
    /// Id of the message.
    pub target: String,
    /// Number of the message in the room.
    pub target_seq: i64,
    /// The emoji.
    pub emoji: String,
    /// Whether the reaction was added; removed otherwise.
    pub on: bool,
    /// How many users react with it after this.
    pub count: u32,
}

/// Adds the object of a stored change in the room named `room` to `out`, as JSON.
pub(crate) fn write(out: &mut Vec<u8>, room: &str, stored: &StoredChange) {
    /// The fields of all kinds, in their order.
    #[derive(Serialize)]
    struct Shown<'a> {
        seq: i64,
        name: &'a str,
        username: &'a str,
        public_id: &'a str,
        created_on: Time,
        target: MessageId,
        target_seq: i64,
        #[serde(flatten)]
        rest: Rest<'a>,
    }
    /// What each kind has beside.
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Rest<'a> {
        Edit { message: &'a str, edited_on: Time },
        Delete {},
        Reaction { emoji: &'a str, on: bool, count: u32 },
    }
    let created_on = Time(stored.created_on);
    let (target, target_seq, rest) = match &stored.change {
        Change::Edit {
            target,
            target_seq,
            text,
        } => {
            let edited_on = created_on;
            (
                target,
                target_seq,
                Rest::Edit {
                    message: text,
                    edited_on,
                },
            )
        }
        Change::Delete { target, target_seq } => (target, target_seq, Rest::Delete {}),
        Change::Reaction {
            target,
            target_seq,
            emoji,
            on,
            count,
        } => {
            let (emoji, on, count) = (emoji.as_str(), *on, *count);
            (target, target_seq, Rest::Reaction { emoji, on, count })
        }
    };
    let shown = Shown {
        seq: stored.seq.0,
        name: room,
        username: &stored.username,
        public_id: &stored.public_id,
        created_on,
        target: *target,
        target_seq: target_seq.0,
        rest,
    };
    json::write(out, &shown);
}
