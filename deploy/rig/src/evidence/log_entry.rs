//! Entries of a room's log: messages with what changes leave behind, and the changes.

use std::collections::BTreeMap;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::posts::Digest;
use super::streams::Sequenced;
use crate::failure::Result;

/// An entry of a room's log, as a stream, history or the database shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Position in the room.
    pub seq: i64,
    /// Who posted the message, changed it, or did what else it is.
    pub username: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A message, as it was when it was shown.
    Message(ShownMessage),
    /// A message has another text.
    Edit {
        /// Which.
        target: Target,
        /// Its text; the database does not keep it with the entry.
        text: Digest,
        /// When, in milliseconds since 1970.
        edited_on: i64,
    },
    /// A message is deleted.
    Delete {
        /// Which.
        target: Target,
    },
    /// A user reacts to a message, or does not any longer.
    Reaction {
        /// Which.
        target: Target,
        /// With what.
        emoji: String,
        /// Whether the reaction was added.
        on: bool,
        /// How many users react with it since.
        count: i64,
    },
    /// Somebody is a member, or no longer.
    Member {
        /// Name of the user.
        member: String,
        /// What happened to them.
        change: MemberChange,
    },
    /// The room was created, with its creator as the first member.
    Created {
        /// Whether only members see it.
        private: bool,
    },
}

/// What changed about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// They are one, and may do this.
    Joined {
        /// `owner` or `member`.
        role: String,
    },
    /// They are one no longer.
    Left,
}

impl MemberChange {
    /// Parses the fields of a change of a member; `None` if it is none that the product knows.
    pub(crate) fn parse(data: &Value) -> Option<Self> {
        match data["change"].as_str()? {
            "joined" => Some(Self::Joined {
                role: data["role"].as_str()?.to_owned(),
            }),
            "left" => Some(Self::Left),
            _ => None,
        }
    }

    /// Whether they are a member since.
    #[must_use]
    pub fn is_member(&self) -> bool {
        match self {
            Self::Joined { .. } => true,
            Self::Left => false,
        }
    }
}

/// Parses whether a room is private from the fields of its creation; `None` if they are of another change.
pub(crate) fn created_private(data: &Value) -> Option<bool> {
    (data["change"] == "created").then(|| data["private"].as_bool())?
}

/// The message that a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: Uuid,
    /// Its seq.
    pub seq: i64,
}

/// A message with what changes leave behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownMessage {
    /// Identity.
    pub id: Uuid,
    /// The text.
    pub text: Digest,
    /// When it was edited last, in milliseconds since 1970.
    pub edited_on: Option<i64>,
    /// Whether it is deleted.
    pub deleted: bool,
    /// How many users react with which emoji. The order in which apps show them is not part of the log.
    pub reactions: BTreeMap<String, i64>,
    /// The message that it replies to.
    pub reply_to: Option<Uuid>,
    /// Names of the users that it mentions.
    pub mentions: Vec<String>,
}

impl Sequenced for LogEntry {
    fn seq(&self) -> i64 {
        self.seq
    }
}

impl LogEntry {
    /// Parses the data of the event `name`, or, as an event `message`, the message object; `None` if it is no entry.
    #[must_use]
    pub fn parse(name: &str, data: &Value) -> Option<Self> {
        let kind = match name {
            "message" => EntryKind::Message(ShownMessage::parse(data)?),
            "edit" => EntryKind::Edit {
                target: Target::parse(data)?,
                text: Digest::of(data["message"].as_str()?),
                edited_on: millis(&data["edited_on"])?,
            },
            "delete" => EntryKind::Delete {
                target: Target::parse(data)?,
            },
            "reaction" => EntryKind::Reaction {
                target: Target::parse(data)?,
                emoji: data["emoji"].as_str()?.to_owned(),
                on: data["on"].as_bool()?,
                count: data["count"].as_i64()?,
            },
            "member" => EntryKind::Member {
                member: data["member"].as_str()?.to_owned(),
                change: MemberChange::parse(data)?,
            },
            "room" => EntryKind::Created {
                private: created_private(data)?,
            },
            _ => return None,
        };
        Some(Self {
            seq: data["seq"].as_i64()?,
            username: data["username"].as_str()?.to_owned(),
            kind,
        })
    }

    /// The message, if it is one.
    #[must_use]
    pub fn message(&self) -> Option<&ShownMessage> {
        match &self.kind {
            EntryKind::Message(message) => Some(message),
            EntryKind::Edit { .. }
            | EntryKind::Delete { .. }
            | EntryKind::Reaction { .. }
            | EntryKind::Member { .. }
            | EntryKind::Created { .. } => None,
        }
    }

    /// The message that it changes, if it changes one.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match &self.kind {
            EntryKind::Message(_) | EntryKind::Member { .. } | EntryKind::Created { .. } => None,
            EntryKind::Edit { target, .. } | EntryKind::Delete { target } | EntryKind::Reaction { target, .. } => {
                Some(*target)
            }
        }
    }

    /// Whether both are the same entry. What is shown later has the text of that time, so texts are not compared.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (EntryKind::Message(one), EntryKind::Message(other)) => {
                (one.id, one.reply_to) == (other.id, other.reply_to)
            }
            (
                EntryKind::Edit { target, edited_on, .. },
                EntryKind::Edit {
                    target: other_target,
                    edited_on: other_time,
                    ..
                },
            ) => (target, edited_on) == (other_target, other_time),
            (one, other) => one == other,
        };
        same_kind && (self.seq, &self.username) == (other.seq, &other.username)
    }
}

impl Target {
    fn parse(data: &Value) -> Option<Self> {
        Some(Self {
            id: data["target"].as_str()?.parse().ok()?,
            seq: data["target_seq"].as_i64()?,
        })
    }
}

impl ShownMessage {
    fn parse(data: &Value) -> Option<Self> {
        let edited_on = match data.get("edited_on") {
            Some(time) => Some(millis(time)?),
            None => None,
        };
        let deleted = match data.get("deleted") {
            Some(deleted) => deleted.as_bool()?,
            None => false,
        };
        Some(Self {
            id: data["id"].as_str()?.parse().ok()?,
            text: Digest::of(data["message"].as_str()?),
            edited_on,
            deleted,
            reactions: reaction_counts(&data["reactions"])?,
            reply_to: replied_to(&data["reply_to"]).ok()?,
            mentions: names(&data["mentions"])?,
        })
    }
}

/// Parses the id of the message that another one replies to, if it does.
pub(crate) fn replied_to(id: &Value) -> Result<Option<Uuid>> {
    Ok(serde_json::from_value(id.clone())?)
}

/// Parses a list of names; nothing is an empty one.
pub(crate) fn names(names: &Value) -> Option<Vec<String>> {
    match names {
        Value::Null => Some(Vec::new()),
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Parses a list of reactions; nothing is an empty one.
pub(crate) fn reaction_counts(reactions: &Value) -> Option<BTreeMap<String, i64>> {
    let count = |reaction: &Value| Some((reaction["emoji"].as_str()?.to_owned(), reaction["count"].as_i64()?));
    match reactions {
        Value::Null => Some(BTreeMap::new()),
        Value::Array(reactions) => reactions.iter().map(count).collect(),
        _ => None,
    }
}

/// Milliseconds since 1970 of a time in RFC 3339.
fn millis(time: &Value) -> Option<i64> {
    let time = OffsetDateTime::parse(time.as_str()?, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "017f22e2-79b0-8cc3-98c4-dc0c0c07398f";

    #[test]
    fn entries_are_parsed_and_incomplete_objects_are_none() {
        let message = json!({"seq": 1, "id": ID, "username": "ann", "message": "hello", "edited_on": "1970-01-01T00:00:02.005Z",
            "reactions": [{"emoji": "🎉", "count": 2}], "reply_to": ID, "mentions": ["bob"]});
        let edit = json!({"seq": 2, "username": "ann", "target": ID, "target_seq": 1, "message": "bye",
            "edited_on": "1970-01-01T00:00:02.005Z"});
        let delete = json!({"seq": 3, "username": "ann", "target": ID, "target_seq": 1});
        let reaction =
            json!({"seq": 4, "username": "ann", "target": ID, "target_seq": 1, "emoji": "🎉", "on": true, "count": 2});
        let shown = LogEntry::parse("message", &message).unwrap();
        let shown = shown.message().unwrap();
        assert_eq!((shown.text, shown.edited_on, shown.deleted), (Digest::of("hello"), Some(2_005), false));
        assert_eq!(shown.reactions, [("🎉".to_owned(), 2)].into());
        assert_eq!((shown.reply_to, &shown.mentions[..]), (ID.parse().ok(), &["bob".to_owned()][..]));
        let member = json!({"seq": 5, "username": "bob", "member": "bob", "change": "joined", "role": "member"});
        let left = json!({"seq": 6, "username": "bob", "member": "bob", "change": "left"});
        let room = json!({"seq": 7, "username": "ann", "change": "created", "private": true});
        for (name, complete) in [
            ("message", message),
            ("edit", edit),
            ("delete", delete),
            ("reaction", reaction),
            ("member", member),
            ("member", left),
            ("room", room),
        ] {
            assert!(LogEntry::parse(name, &complete).is_some(), "{name}");
            assert_eq!(LogEntry::parse("ping", &complete), None);
            for field in complete.as_object().unwrap().keys() {
                let mut broken = complete.clone();
                broken[field] = json!({"garbage": 1});
                assert_eq!(LogEntry::parse(name, &broken), None, "{name} {field}");
            }
        }
    }

    #[test]
    fn replayed_entry_is_the_same_with_another_text() {
        let edit = |text: &str, edited_on| LogEntry {
            seq: 2,
            username: "ann".to_owned(),
            kind: EntryKind::Edit {
                target: Target {
                    id: Uuid::nil(),
                    seq: 1,
                },
                text: Digest::of(text),
                edited_on,
            },
        };
        assert!(edit("one", 5).is_same(&edit("two", 5)));
        assert!(!edit("one", 5).is_same(&edit("one", 6)));
    }
}
