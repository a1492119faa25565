//! Server-sent events as bytes (WHATWG HTML, section 9.2).
//!
//! Nothing a user wrote reaches a field name or ends a line: data is one line of JSON, whose strings escape CR and LF;
//! ids are integers; event names come from an enum.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Serialize;
use shared::domain::{Epoch, Seq, StoredMessage, StreamCursor};

use crate::message::Message;

/// Length of the comment every stream begins with: some HTTP clients show nothing until they have 512 bytes.
const PADDING: usize = 512;

/// Events that are not messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream is open.
    Ready,
    /// The client's cursor was of no use; what it has may be outdated.
    Reset,
    /// The stream is silent and alive.
    Ping,
    /// The server ends the stream.
    Bye,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Reset => "reset",
            Self::Ping => "ping",
            Self::Bye => "bye",
        }
    }
}

/// The first bytes of a stream: how long to wait before reconnecting, and padding.
#[must_use]
pub fn prelude(retry_ms: u32) -> String {
    format!("retry: {retry_ms}\n:{:-<PADDING$}\n\n", "")
}

/// A stored message as an event of the default type.
#[must_use]
pub fn message(room: &str, epoch: Epoch, message: &StoredMessage) -> Bytes {
    let cursor = StreamCursor {
        epoch,
        seq: message.seq,
    };
    let mut frame = String::with_capacity(256 + message.text.len());
    push(&mut frame, None, Some(cursor), &Message::of(room, message));
    frame.into()
}

/// Adds an event of `kind` to `out`. `cursor` becomes its id: the position the client has reached with it.
pub fn push_event(out: &mut String, kind: Kind, cursor: Option<StreamCursor>, data: &impl Serialize) {
    push(out, Some(kind), cursor, data);
}

fn push(out: &mut String, kind: Option<Kind>, cursor: Option<StreamCursor>, data: &impl Serialize) {
    let json = serde_json::to_string(data).expect("events have string keys only and no failing parts");
    if let Some(kind) = kind {
        let _ = writeln!(out, "event: {}", kind.name());
    }
    if let Some(cursor) = cursor {
        let _ = writeln!(out, "id: {cursor}");
    }
    let _ = write!(out, "data: {json}\n\n");
}

/// What `ready` tells.
#[derive(Debug, Serialize)]
pub struct Ready<'a> {
    /// Name of the room.
    pub room: &'a str,
    /// Last seq of the room.
    pub head: Seq,
    /// True if the stream goes on from the client's own cursor.
    pub recovered: bool,
    /// Messages between that cursor and the head, which follow now.
    pub missed: i64,
    /// Seconds of silence after which a ping comes.
    pub heartbeat_s: u64,
    /// The gateway's clock.
    pub server_time: String,
}

/// What `reset` tells.
#[derive(Debug, Serialize)]
pub struct Reset {
    /// Why the cursor was of no use.
    pub reason: ResetReason,
    /// Last seq of the room, from which the stream goes on.
    pub head: Seq,
}

/// Why a cursor was of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// It is not of the form `<epoch>-<seq>`.
    Malformed,
    /// It belongs to a history that is gone.
    ForeignEpoch,
    /// It lies beyond the last message.
    Ahead,
    /// More was missed than the client wants to have replayed.
    TooMany,
}

/// What `ping` tells.
#[derive(Debug, Serialize)]
pub struct Ping {
    /// The gateway's clock.
    pub server_time: String,
}

/// What `bye` tells.
#[derive(Debug, Serialize)]
pub struct Bye {
    /// Why the stream ends.
    pub reason: super::ByeReason,
    /// When to come back.
    pub retry_ms: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::domain::{MessageId, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn stored(text: &str, username: &str) -> StoredMessage {
        StoredMessage {
            seq: Seq(17),
            id: MessageId(Uuid::nil()),
            username: username.to_owned(),
            kind: "MESSAGE".to_owned(),
            text: text.to_owned(),
            created_on: Timestamp(1_630_288_695_856),
        }
    }

    #[test]
    fn a_message_is_the_object_of_the_contract() {
        let frame = message("testchat1", Epoch(99), &stored("test message 1", "test1"));
        let expected = concat!(
            "id: 99-17\n",
            r#"data: {"id":"00000000-0000-0000-0000-000000000000","seq":17,"name":"testchat1","username":"test1","#,
            r#""message_type":"MESSAGE","message":"test message 1","created_on":"2021-08-30T01:58:15.856Z"}"#,
            "\n\n"
        );
        assert_eq!(frame, expected.as_bytes());
    }

    #[test]
    fn a_stream_begins_with_more_than_512_bytes() {
        let prelude = prelude(2500);
        assert!(prelude.starts_with("retry: 2500\n:---"));
        assert!(prelude.ends_with("-\n\n"));
        assert!(prelude.len() > 512);
    }

    proptest! {
        /// The standard ends a line at CR, LF or CRLF: whatever the text, there are exactly our lines.
        #[test]
        fn no_text_can_end_a_line(text in "(?s).{0,200}", name in "(?s).{0,20}") {
            let frame = message("room", Epoch(1), &stored(&text, &name));
            let frame = std::str::from_utf8(&frame).unwrap();
            let lines: Vec<&str> = frame.split(['\r', '\n']).collect();
            prop_assert_eq!(lines.len(), 4);
            prop_assert!(lines[0].starts_with("id: 1-17"));
            let json: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
            prop_assert_eq!(&json["message"], &text);
            prop_assert_eq!(&json["username"], &name);
            prop_assert_eq!(&lines[2..], ["", ""]);
        }
    }
}
