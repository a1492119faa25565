//! The objects of changes on the stream, as the contract spells them.

use poem_openapi::Object;
use serde::Serialize;
use shared::domain::{Change, MemberChange, MemberRole, MessageId, RoomChange, Seq, StoredChange};

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

/// Data of the event `member`: somebody is a member of the room, or no longer.
#[derive(Clone, Object, Serialize)]
pub struct MemberEvent {
    /// Number in the room.
    pub seq: i64,
    /// Name of the room.
    pub name: String,
    /// Name of the user who did it.
    pub username: String,
    /// Public id of that user.
    pub public_id: String,
    /// When it happened: RFC 3339, UTC, milliseconds.
    pub created_on: String,
    /// What happened: `joined` or `left`. Later versions know more.
    pub change: String,
    /// Name of the user to whom it happened.
    pub member: String,
    /// What they may do, after `joined`: `owner` or `member`. Later versions know more.
    #[oai(skip_serializing_if_is_none)]
    pub role: Option<String>,
}

/// Data of the event `room`: the room was created, or is another one now.
#[derive(Clone, Object, Serialize)]
pub struct RoomChangeEvent {
    /// Number in the room.
    pub seq: i64,
    /// Name of the room.
    pub name: String,
    /// Name of the user who did it.
    pub username: String,
    /// Public id of that user.
    pub public_id: String,
    /// When it happened: RFC 3339, UTC, milliseconds.
    pub created_on: String,
    /// What happened: `created`, with the user as the first member. Later versions know more.
    pub change: String,
    /// Whether only members see the room.
    #[oai(skip_serializing_if_is_none)]
    pub private: Option<bool>,
}

/// The fields of all kinds of changes, in their order.
#[derive(Serialize)]
struct Shown<'a> {
    seq: i64,
    name: &'a str,
    username: &'a str,
    public_id: &'a str,
    created_on: Time,
    #[serde(flatten)]
    rest: Rest<'a>,
}

/// What each kind has beside.
#[derive(Serialize)]
#[serde(untagged)]
enum Rest<'a> {
    Edit {
        target: MessageId,
        target_seq: Seq,
        message: &'a str,
        edited_on: Time,
    },
    Delete {
        target: MessageId,
        target_seq: Seq,
    },
    Reaction {
        target: MessageId,
        target_seq: Seq,
        emoji: &'a str,
        on: bool,
        count: u32,
    },
    Member {
        change: &'static str,
        member: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<MemberRole>,
    },
    Room {
        change: &'static str,
        private: bool,
    },
}

impl<'a> Rest<'a> {
    /// What `change`, which was made at `created_on`, has beside the fields of all kinds.
    fn of(change: &'a Change, created_on: Time) -> Self {
        match change {
            Change::Edit {
                target,
                target_seq,
                text,
            } => Self::Edit {
                target: *target,
                target_seq: *target_seq,
                message: text,
                edited_on: created_on,
            },
            Change::Delete { target, target_seq } => Self::Delete {
                target: *target,
                target_seq: *target_seq,
            },
            Change::Reaction {
                target,
                target_seq,
                emoji,
                on,
                count,
            } => Self::Reaction {
                target: *target,
                target_seq: *target_seq,
                emoji: emoji.as_str(),
                on: *on,
                count: *count,
            },
            Change::Member { member, change } => Self::of_member(member, change),
            Change::Room(RoomChange::Created { private }) => Self::Room {
                change: "created",
                private: *private,
            },
        }
    }

    fn of_member(member: &'a str, change: &MemberChange) -> Self {
        let (change, role) = match change {
            MemberChange::Joined { role } => ("joined", Some(*role)),
            MemberChange::Left => ("left", None),
        };
        Self::Member { change, member, role }
    }
}

/// Adds the object of a stored change in the room named `room` to `out`, as JSON.
pub(crate) fn write(out: &mut Vec<u8>, room: &str, stored: &StoredChange) {
    let created_on = Time(stored.created_on);
    let shown = Shown {
        seq: stored.seq.0,
        name: room,
        username: &stored.username,
        public_id: &stored.public_id,
        created_on,
        rest: Rest::of(&stored.change, created_on),
    };
    json::write(out, &shown);
}

#[cfg(test)]
mod tests {
    use poem_openapi::registry::Registry;
    use poem_openapi::types::Type;
    use serde_json::{Value, to_value};
    use shared::domain::{Emoji, Timestamp};

    use super::*;

    /// The fields of a documented object, in their order.
    fn documented<T: Type>() -> Vec<String> {
        let mut registry = Registry::new();
        T::register(&mut registry);
        let schema = to_value(&registry.schemas[&*T::name()]).unwrap();
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn written(change: Change) -> Vec<String> {
        let stored = StoredChange {
            seq: Seq(8),
            username: "ann".to_owned(),
            public_id: "ann-1".to_owned(),
            created_on: Timestamp(0),
            change,
        };
        let mut json = Vec::new();
        write(&mut json, "lobby", &stored);
        serde_json::from_slice::<Value>(&json).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn written_changes_have_the_documented_fields() {
        let (target, target_seq) = (MessageId::fresh(), Seq(7));
        let text = "new".to_owned();
        let (emoji, on, count) = (Emoji::parse("👍").unwrap(), true, 2);
        let edit = Change::Edit {
            target,
            target_seq,
            text,
        };
        let reaction = Change::Reaction {
            target,
            target_seq,
            emoji,
            on,
            count,
        };
        assert_eq!(written(edit), documented::<EditEvent>());
        assert_eq!(written(Change::Delete { target, target_seq }), documented::<DeleteEvent>());
        assert_eq!(written(reaction), documented::<ReactionEvent>());
        let member = |change| Change::Member {
            member: "bob".to_owned(),
            change,
        };
        let joined = MemberChange::Joined {
            role: MemberRole::Owner,
        };
        assert_eq!(written(member(joined)), documented::<MemberEvent>());
        let mut without_role = documented::<MemberEvent>();
        without_role.retain(|field| field != "role");
        assert_eq!(written(member(MemberChange::Left)), without_role);
        assert_eq!(written(Change::Room(RoomChange::Created { private: true })), documented::<RoomChangeEvent>());
    }
}
