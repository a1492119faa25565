//! Room events: what the worker publishes on a room's channel after a commit.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{InvalidPublication, Purpose};
use crate::domain::{RoomEntry, RoomId, StoredChange, StoredMessage, UserId};

/// Entries of the log of one room that one commit stored, with ascending seqs.
///
/// An event is a hint: a receiver that misses one sees the gap by the next seq and reads history.
pub struct RoomEvent {
    /// The room, repeated from the channel's name so that a receiver notices a wrong route.
    pub room: RoomId,
    /// The entries.
    pub entries: Vec<RoomEntry>,
    /// Who is typing. It is no entry, and is in an event of its own, which a gateway publishes.
    pub typing: Option<TypingNotice>,
}

/// A user who types in a room, or stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingNotice {
    /// The user.
    pub user: UserId,
    /// Their username.
    pub username: String,
    /// Whether they are typing.
    pub is_typing: bool,
}

/// The event as JSON. Messages stand apart, as in versions that knew nothing else.
#[derive(Serialize)]
struct Written<'a> {
    room: RoomId,
    messages: Vec<&'a StoredMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<&'a StoredChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typing: Option<&'a TypingNotice>,
}

/// The same as it is read.
#[derive(Deserialize)]
struct Read {
    room: RoomId,
    messages: Vec<StoredMessage>,
    #[serde(default)]
    changes: Vec<StoredChange>,
    #[serde(default)]
    typing: Option<TypingNotice>,
}

impl RoomEvent {
    /// The event on the channel: one JSON object, and its MAC.
    #[must_use]
    pub fn encode(&self, keys: &KeySpace) -> Vec<u8> {
        let mut written = Written {
            room: self.room,
            messages: Vec::with_capacity(self.entries.len()),
            changes: Vec::new(),
            typing: self.typing.as_ref(),
        };
        for entry in &self.entries {
            match entry {
                RoomEntry::Message(message) => written.messages.push(message),
                RoomEntry::Change(change) => written.changes.push(change),
            }
        }
        keys.mac().encode(Purpose::Room, &written)
    }

    /// Decodes what [`RoomEvent::encode`] wrote.
    pub fn decode(raw: &[u8], keys: &KeySpace) -> Result<Self, InvalidPublication> {
        let Read {
            room,
            messages,
            changes,
            typing,
        } = keys.mac().decode(Purpose::Room, raw)?;
        let mut entries: Vec<RoomEntry> = messages.into_iter().map(RoomEntry::Message).collect();
        if !changes.is_empty() {
            entries.extend(changes.into_iter().map(RoomEntry::Change));
            entries.sort_unstable_by_key(RoomEntry::seq);
        }
        Ok(Self { room, entries, typing })
    }
}
