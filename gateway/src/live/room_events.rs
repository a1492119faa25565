//! Events of a room's stream: the entries of its log, and where the stream begins.

use serde::Serialize;
use shared::domain::{Change, Epoch, RoomEntry, Seq, StreamCursor};

use super::event_kind::Kind;
use super::frame::{self, Frame};
use super::stream_events::ResetReason;
use crate::{change_json, message_json};

/// An entry of the log of a room: a message as an event of the default type, a change as an event named by its kind.
#[must_use]
pub fn entry(room: &str, epoch: Epoch, entry: &RoomEntry) -> Frame {
    let seq = entry.seq();
    let cursor = Some(StreamCursor { epoch, seq });
    match entry {
        RoomEntry::Message(message) => {
            frame::encode(None, cursor, message.text.len(), |out| message_json::write(out, room, message))
        }
        RoomEntry::Change(stored) => {
            let text = match &stored.change {
                Change::Edit { text, .. } => text.len(),
                Change::Delete { .. } | Change::Reaction { .. } | Change::Member { .. } | Change::Room(_) => 0,
            };
            let kind = Kind::of(&stored.change);
            frame::encode(Some(kind), cursor, text, |out| change_json::write(out, room, stored))
        }
    }
}

/// The name of an entry's event, and `message` for a message, whose event has none.
#[must_use]
pub fn entry_name(entry: &RoomEntry) -> &'static str {
    match entry {
        RoomEntry::Message(_) => "message",
        RoomEntry::Change(stored) => Kind::of(&stored.change).name(),
    }
}

/// Data of `ready`.
#[derive(Debug, Serialize)]
pub struct Ready<'a> {
    /// Name of the room.
    pub room: &'a str,
    /// Last seq of the room.
    pub head: Seq,
    /// True if the stream goes on from the cursor of the client.
    pub recovered: bool,
    /// Entries between that cursor and the head, which follow now.
    pub missed: i64,
    /// Seconds of silence after which a ping comes.
    pub heartbeat_s: u64,
    /// The time by the clock of the gateway.
    pub server_time: String,
}

/// Data of `reset`.
#[derive(Debug, Serialize)]
pub struct Reset {
    /// Why the cursor could not be used.
    pub reason: ResetReason,
    /// Last seq of the room, from which the stream goes on.
    pub head: Seq,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::domain::{Emoji, MessageId, StoredChange, StoredMessage, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::json;
    use crate::live::frame::Framing;

    fn stored(text: &str, username: &str) -> RoomEntry {
        RoomEntry::Message(StoredMessage {
            seq: Seq(17),
            id: MessageId(Uuid::nil()),
            username: username.to_owned(),
            public_id: "test1".to_owned(),
            kind: "MESSAGE".to_owned(),
            text: text.to_owned(),
            created_on: Timestamp(1_630_288_695_856),
            extra: None,
        })
    }

    #[test]
    fn a_message_is_encoded_as_documented() {
        let frame = entry("testchat1", Epoch(99), &stored("test message 1", "test1"));
        let expected = concat!(
            r#"data: {"id":"00000000-0000-0000-0000-000000000000","seq":17,"name":"testchat1","username":"test1","#,
            r#""public_id":"test1","message_type":"MESSAGE","message":"test message 1","created_on":"2021-08-30T01:58:15.856Z"}"#,
            "\nid: 99-17\n\n"
        );
        assert_eq!(frame.bytes(Framing::Library), expected.as_bytes());
        let chunk = format!("{:06x}\r\n{expected}\r\n", expected.len());
        assert_eq!(frame.bytes(Framing::Chunked), chunk.as_bytes());
    }

    #[test]
    fn a_change_is_a_named_event_of_its_kind() {
        let change = |change| {
            RoomEntry::Change(StoredChange {
                seq: Seq(18),
                username: "test1".to_owned(),
                public_id: "test1".to_owned(),
                created_on: Timestamp(1_630_288_695_856),
                change,
            })
        };
        let (target, target_seq) = (MessageId(Uuid::nil()), Seq(17));
        let emoji = Emoji::parse("👍").unwrap();
        let text = "new".to_owned();
        for (change_of, name, rest) in [
            (
                Change::Edit {
                    target,
                    target_seq,
                    text,
                },
                "edit",
                r#","message":"new","edited_on":"2021-08-30T01:58:15.856Z"}"#,
            ),
            (Change::Delete { target, target_seq }, "delete", "}"),
            (
                Change::Reaction {
                    target,
                    target_seq,
                    emoji,
                    on: true,
                    count: 2,
                },
                "reaction",
                r#","emoji":"👍","on":true,"count":2}"#,
            ),
        ] {
            let frame = entry("testchat1", Epoch(99), &change(change_of));
            let expected = [
                "event: ",
                name,
                "\ndata: ",
                r#"{"seq":18,"name":"testchat1","username":"test1","public_id":"test1","created_on":"2021-08-30T01:58:15.856Z","#,
                r#""target":"00000000-0000-0000-0000-000000000000","target_seq":17"#,
                rest,
                "\nid: 99-18\n\n",
            ];
            assert_eq!(std::str::from_utf8(frame.as_slice(Framing::Library)).unwrap(), expected.concat());
        }
    }

    proptest! {
        /// The standard ends a line at CR, LF or CRLF, and some readers at more (see [`crate::json`]): whatever the text, there
        /// are exactly the lines of the frame.
        #[test]
        fn no_text_can_end_a_line(text in json::tests::TEXT, name in json::tests::TEXT) {
            let frame = entry("room", Epoch(1), &stored(&text, &name));
            let frame = std::str::from_utf8(frame.as_slice(Framing::Library)).unwrap();
            let lines: Vec<&str> = json::tests::lines(frame);
            prop_assert_eq!(lines.len(), 4);
            prop_assert_eq!(lines[1], "id: 1-17");
            let json: serde_json::Value = serde_json::from_str(lines[0].strip_prefix("data: ").unwrap()).unwrap();
            prop_assert_eq!(&json["message"], &text);
            prop_assert_eq!(&json["username"], &name);
            prop_assert_eq!(&lines[2..], ["", ""]);
        }
    }
}
