//! What a room is for a user, as apps see it: in lists, in answers to catching up and on the stream of all rooms.

use poem_openapi::Object;
use serde::Serialize;
use shared::domain::{MemberRole, RoomKind, Timestamp};
use shared::storage::RoomState;

use crate::message_json::rfc3339;

/// What a room is for you.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
#[oai(rename = "RoomState")]
pub struct RoomStateJson {
    /// Its name.
    pub name: String,
    /// `room`, or `direct` for the one room of two users. Later versions know more.
    pub kind: String,
    /// The username of the other member of a direct room.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// What you may do: `owner` or `member`. Later versions know more.
    pub role: String,
    /// Number of the last entry.
    pub head: i64,
    /// Messages of others behind `read_seq`. If there are more than 100 messages behind it, your own and deleted ones count as well.
    pub unread: u32,
    /// Those of them that mention you, 100 at most.
    pub mentions: u32,
    /// Number of the last entry that you have read.
    pub read_seq: i64,
    /// What you want to be notified of.
    pub notify: NotifyJson,
}

/// What a user wants to be notified of in a room.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
#[oai(rename = "NotifyState")]
pub struct NotifyJson {
    /// `all`, `mentions` or `none`.
    pub level: String,
    /// When it ends and is `all` again.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl RoomStateJson {
    /// The state as it is now.
    #[must_use]
    pub fn of(state: &RoomState) -> Self {
        let notify = state.notify.at(Timestamp::now());
        Self {
            name: state.name.clone(),
            kind: state.kind.as_str().to_owned(),
            with: state.with.clone().filter(|_| state.kind == RoomKind::Direct),
            role: match state.role {
                MemberRole::Owner => "owner",
                MemberRole::Member => "member",
            }
            .to_owned(),
            head: state.head.0,
            unread: state.unread,
            mentions: state.mentions,
            read_seq: state.read_seq.0,
            notify: NotifyJson {
                level: notify.level.as_str().to_owned(),
                until: notify.until.map(rfc3339),
            },
        }
    }
}
