//! The state object of a room: what an app sees of one of its user's rooms, the same in lists, on the user's stream and in sync.
//!
//! It has two forms with one meaning: [`UserRoomState`], which documents it, and `State`, which encodes it without a copy.

use poem_openapi::Object;
use serde::Serialize;
use shared::domain::{NotifyLevel, RoomKind, StoredMessage, Timestamp};
use shared::storage::RoomState;

use crate::json;
use crate::message_json::{self, Message, Time};

/// A room that you are in.
#[derive(Clone, Object, Serialize)]
pub struct UserRoom {
    /// What it is to you.
    #[oai(flatten)]
    #[serde(flatten)]
    pub state: UserRoomState,
    /// The last message, where a call says so; absent if there is none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message: Option<Message>,
}

/// What a room is to you: a part of every object that shows one of your rooms.
#[derive(Clone, Object, Serialize)]
pub struct UserRoomState {
    /// Name of the room.
    pub name: String,
    /// `room` or `direct`; further kinds may come.
    pub kind: String,
    /// Username of the other member of a direct room.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// What you may do: `owner` or `member`; further roles may come.
    pub role: String,
    /// Last seq of the room; of a room that is new to a client that catches up, the seq behind which its entries come.
    pub head: i64,
    /// Last seq of the room when `unread` and `mentions` were counted, if that is not `head`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_upto: Option<i64>,
    /// How many messages of others you have not read: those behind `read_seq` that are not deleted. Above 100, all messages behind
    /// it, your own ones included.
    pub unread: u32,
    /// How many of them mention you, up to 100.
    pub mentions: u32,
    /// Your read mark: the last seq that you have read.
    pub read_seq: i64,
    /// What you want to be notified of.
    pub notify: Notifications,
}

/// What somebody wants to be notified of in a room.
#[derive(Clone, Object, Serialize)]
pub struct Notifications {
    /// `all`, `mentions` or `none`; further levels may come.
    pub level: String,
    /// When the level ends, and is `all` again: RFC 3339, UTC, milliseconds.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// The state object of a room, without the last message. It can be flattened into an object with further fields.
#[derive(Serialize)]
pub(crate) struct State<'a> {
    name: &'a str,
    kind: RoomKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<&'a str>,
    role: &'static str,
    head: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_upto: Option<i64>,
    unread: u32,
    mentions: u32,
    read_seq: i64,
    notify: NotifyState,
}

#[derive(Serialize)]
struct NotifyState {
    level: NotifyLevel,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

impl<'a> State<'a> {
    /// The object of `state` as it is at `now`.
    pub(crate) fn of(state: &'a RoomState, now: Timestamp) -> Self {
        let notify = state.notify.at(now);
        Self {
            name: &state.name,
            kind: state.kind,
            with: state.with.as_deref(),
            role: state.role.as_str(),
            head: state.head.0,
            counted_upto: (state.counted_upto != state.head).then_some(state.counted_upto.0),
            unread: state.unread,
            mentions: state.mentions,
            read_seq: state.read_seq.0,
            notify: NotifyState {
                level: notify.level,
                until: notify.until.map(Time),
            },
        }
    }
}

/// Adds the state object of a room at `now` to `out`, with the `last` message of the room if it is given.
pub(crate) fn write(out: &mut Vec<u8>, state: &RoomState, now: Timestamp, last: Option<&StoredMessage>) {
    json::write(out, &State::of(state, now));
    if let Some(last) = last {
        // In place of the closing brace.
        out.pop();
        out.extend_from_slice(br#","last_message":"#);
        message_json::write(out, &state.name, last);
        out.push(b'}');
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;
    use shared::domain::{MemberRole, Notify, Position, RoomId, RoomsVersion, Seq};

    use super::*;

    /// A direct room with bob.
    pub(crate) fn direct_room() -> RoomState {
        RoomState {
            room: RoomId(7),
            name: "~abcdefghijklmnopqrstuvwxyz".to_owned(),
            kind: RoomKind::Direct,
            with: Some("bob".to_owned()),
            role: MemberRole::Member,
            head: Seq(17),
            counted_upto: Seq(18),
            unread: 3,
            mentions: 1,
            read_seq: Seq(12),
            notify: Notify {
                level: NotifyLevel::Mentions,
                until: Some(Timestamp(1_630_288_695_856)),
            },
            version: RoomsVersion(5),
            joined: RoomsVersion(1),
            last_activity: Position(99),
        }
    }

    #[test]
    fn both_forms_are_equal() {
        let (state, last) = (direct_room(), StoredMessage::for_tests(17, "hello".to_owned()));
        let mut encoded = Vec::new();
        write(&mut encoded, &state, Timestamp(0), Some(&last));
        let mut message = Vec::new();
        message_json::write(&mut message, &state.name, &last);
        let message: Value = serde_json::from_slice(&message).unwrap();
        let documented = UserRoomState {
            name: state.name.clone(),
            kind: "direct".to_owned(),
            with: Some("bob".to_owned()),
            role: "member".to_owned(),
            head: 17,
            counted_upto: Some(18),
            unread: 3,
            mentions: 1,
            read_seq: 12,
            notify: Notifications {
                level: "mentions".to_owned(),
                until: Some("2021-08-30T01:58:15.856Z".to_owned()),
            },
        };
        let documented = serde_json::to_string(&documented).unwrap();
        let without_brace = documented.strip_suffix('}').unwrap();
        let expected = format!("{without_brace},\"last_message\":{message}}}");
        let (encoded, expected): (Value, Value) =
            (serde_json::from_slice(&encoded).unwrap(), serde_json::from_str(&expected).unwrap());
        assert_eq!(encoded, expected);
        let mut alone = Vec::new();
        write(&mut alone, &state, Timestamp(0), None);
        assert_eq!(String::from_utf8(alone).unwrap(), documented);
    }

    #[test]
    fn absent_fields_and_settings_that_are_over_are_left_out() {
        let state = RoomState {
            with: None,
            kind: RoomKind::Room,
            role: MemberRole::Owner,
            counted_upto: Seq(17),
            ..direct_room()
        };
        let mut encoded = Vec::new();
        write(&mut encoded, &state, Timestamp(1_630_288_695_856), None);
        let shown: Value = serde_json::from_slice(&encoded).unwrap();
        assert_eq!(shown["notify"], serde_json::json!({"level": "all"}));
        assert_eq!(shown["role"], "owner");
        assert!(["with", "last_message", "counted_upto"].iter().all(|field| shown.get(field).is_none()), "{shown}");
    }
}
