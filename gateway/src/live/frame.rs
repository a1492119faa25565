//! Server-sent events as bytes (WHATWG HTML, section 9.2).
//!
//! An event is encoded once for all who get it, inside of an HTTP chunk of its own (RFC 9112, section 7.1): the fan-out writes
//! successive chunks to a socket as they are, and whoever sends through an HTTP library leaves the chunk framing away.
//!
//! No text of a user reaches a field name or ends a line: data is one line of JSON, whose strings escape every character that
//! some reader takes for the end of a line (see `crate::json`); ids are integers; event names come from an enum.
//!
//! The id stands after the data, because some clients take an id when its line arrives: if the connection is cut between
//! the two lines, an id that came first skips the event whose data was lost. Every block of lines has data, because some
//! clients dispatch a block without it as an empty message.

use std::fmt::Display;
use std::io::Write as _;

use bytes::Bytes;
use serde::Serialize;
use shared::domain::{Change, Epoch, RoomEntry, Seq, StreamCursor};

use crate::{change_json, json, message_json};

/// Length of the comment every stream begins with: some HTTP clients show nothing until they have 512 bytes.
const PADDING: usize = 512;

/// About how many bytes an event takes beside the text of its message.
const MESSAGE_OVERHEAD: usize = 320;

/// What a chunk begins with: its length in hexadecimal, in a fixed number of digits, so that it can be filled in when the
/// length is known. Six digits reach 16 MiB.
const CHUNK_PREFIX: &[u8] = b"000000\r\n";

/// What a chunk ends with.
const CHUNK_SUFFIX: &[u8] = b"\r\n";

/// How the bytes of a stream get to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Through an HTTP library, which frames them.
    Library,
    /// Written to the socket of an HTTP/1.1 connection, in chunks.
    Chunked,
}

/// The event inside of the chunk of a frame.
#[must_use]
pub(super) fn payload(chunk: &[u8]) -> &[u8] {
    &chunk[CHUNK_PREFIX.len()..chunk.len() - CHUNK_SUFFIX.len()]
}

impl Framing {
    /// How many framings there are.
    pub(super) const COUNT: usize = 2;
}

/// One event, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self, framing: Framing) -> Bytes {
        match framing {
            Framing::Chunked => self.0.clone(),
            Framing::Library => self.0.slice(CHUNK_PREFIX.len()..self.0.len() - CHUNK_SUFFIX.len()),
        }
    }

    /// The bytes to send, borrowed.
    #[must_use]
    pub fn as_slice(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => &self.0,
            Framing::Library => payload(&self.0),
        }
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.0.len()
    }

    /// Encodes the event that `write` adds to the buffer.
    fn encode(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut chunk = Vec::with_capacity(CHUNK_PREFIX.len() + capacity + CHUNK_SUFFIX.len());
        push_chunk(&mut chunk, write);
        Self(chunk.into())
    }
}

/// Adds a chunk with what `write` adds.
fn push_chunk(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let content = start + CHUNK_PREFIX.len();
    out.extend_from_slice(CHUNK_PREFIX);
    write(out);
    let mut length = out.len() - content;
    for digit in out[start..content - CHUNK_SUFFIX.len()].iter_mut().rev() {
        *digit = b"0123456789abcdef"[length % 16];
        length /= 16;
    }
    out.extend_from_slice(CHUNK_SUFFIX);
}

/// Adds what `write` adds, framed as `framing` says.
pub(super) fn push_framed(out: &mut Vec<u8>, framing: Framing, write: impl FnOnce(&mut Vec<u8>)) {
    match framing {
        Framing::Chunked => push_chunk(out, write),
        Framing::Library => write(out),
    }
}

/// The first event of a segment that is framed in chunks, and how many bytes its chunk takes. The event comes without its `id` line and the
/// empty line that ends it: streams of many rooms have ids of their own.
pub(super) fn split_first(segment: &[u8]) -> Option<(&[u8], usize)> {
    let (digits, _) = segment.split_at_checked(CHUNK_PREFIX.len() - CHUNK_SUFFIX.len())?;
    let length = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let bytes = CHUNK_PREFIX.len() + length + CHUNK_SUFFIX.len();
    let event = payload(segment.get(..bytes)?);
    let lines = event.strip_suffix(b"\n\n").unwrap_or(event);
    let end = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
    Some((&lines[..end], bytes))
}

/// Adds an event that was taken apart by [`split_first`], with an id of its own.
pub(super) fn push_with_id(out: &mut Vec<u8>, framing: Framing, lines: &[u8], id: &str) {
    push_framed(out, framing, |out| {
        out.extend_from_slice(lines);
        let _ = write!(out, "id: {id}\n\n");
    });
}

/// Whether an event is a message: those have no name.
pub(super) fn is_message(lines: &[u8]) -> bool {
    !lines.starts_with(b"event: ")
}

/// The name of an event, if it has one.
pub(super) fn name_of(lines: &[u8]) -> Option<&[u8]> {
    let line = lines.strip_prefix(b"event: ")?;
    line.split(|byte| *byte == b'\n').next()
}

/// Events that are not messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream is open.
    Ready,
    /// The cursor of the client could not be used; what the client has may be outdated.
    Reset,
    /// The stream is silent, and alive.
    Ping,
    /// The server ends the stream.
    Bye,
    /// A message has another text.
    Edit,
    /// A message is deleted.
    Delete,
    /// Somebody reacts to a message, or does not any longer.
    Reaction,
    /// Somebody is a member of the room, or no longer.
    Member,
    /// The room itself changed.
    Room,
    /// Rooms of the user are new, gone or otherwise another thing to them.
    Rooms,
    /// The user has read further, on whatever device.
    Read,
    /// Somebody is typing, or no longer.
    Typing,
    /// Somebody is online, or no longer.
    Presence,
}

impl Kind {
    /// That of a change.
    fn of(change: &Change) -> Self {
        match change {
            Change::Edit { .. } => Self::Edit,
            Change::Delete { .. } => Self::Delete,
            Change::Reaction { .. } => Self::Reaction,
            Change::Member { .. } => Self::Member,
            Change::Room(_) => Self::Room,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Reset => "reset",
            Self::Ping => "ping",
            Self::Bye => "bye",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Reaction => "reaction",
            Self::Member => "member",
            Self::Room => "room",
            Self::Rooms => "rooms",
            Self::Read => "read",
            Self::Typing => "typing",
            Self::Presence => "presence",
        }
    }
}

/// How many of the events in `segment` have a name: all but messages. No data begins a line with that of a field.
#[must_use]
pub(super) fn count_named(segment: &[u8]) -> u32 {
    let lines = segment.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"event: "));
    u32::try_from(lines.count()).unwrap_or(u32::MAX)
}

/// The first lines of a stream: how long to wait before reconnecting, and padding. They belong to the block of the event
/// that is added next.
#[must_use]
pub fn prelude(retry_ms: u32) -> Vec<u8> {
    format!("retry: {retry_ms}\n:{:-<PADDING$}\n", "").into()
}

/// An entry of the log of a room: a message as an event of the default type, a change as an event named by its kind.
#[must_use]
pub fn entry(room: &str, epoch: Epoch, entry: &RoomEntry) -> Frame {
    let seq = entry.seq();
    let cursor = Some(StreamCursor { epoch, seq });
    match entry {
        RoomEntry::Message(message) => Frame::encode(MESSAGE_OVERHEAD + message.text.len(), |out| {
            push(out, None, cursor, |out| message_json::write(out, room, message));
        }),
        RoomEntry::Change(stored) => {
            let text = match &stored.change {
                Change::Edit { text, .. } => text.len(),
                Change::Delete { .. } | Change::Reaction { .. } | Change::Member { .. } | Change::Room(_) => 0,
            };
            Frame::encode(MESSAGE_OVERHEAD + text, |out| {
                push(out, Some(Kind::of(&stored.change)), cursor, |out| change_json::write(out, room, stored));
            })
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

/// An event of `kind` as a frame; see [`push_event`].
#[must_use]
pub fn event(kind: Kind, cursor: Option<StreamCursor>, data: &impl Serialize) -> Frame {
    Frame::encode(MESSAGE_OVERHEAD, |out| push_event(out, kind, cursor, data))
}

/// Adds an event of `kind` to `out`. Its id is the position that the client has reached with it; it has none if it is never replayed.
pub fn push_event(out: &mut Vec<u8>, kind: Kind, id: Option<impl Display>, data: &impl Serialize) {
    push(out, Some(kind), id, |out| {
        json::write(out, data);
    });
}

/// Adds an event of `kind` whose data is encoded.
pub(super) fn push_encoded(out: &mut Vec<u8>, kind: Kind, id: Option<&str>, data: &[u8]) {
    push(out, Some(kind), id, |out| out.extend_from_slice(data));
}

/// Adds an event, whose data is the one line of JSON that `write` adds.
fn push(out: &mut Vec<u8>, kind: Option<Kind>, id: Option<impl Display>, write: impl FnOnce(&mut Vec<u8>)) {
    if let Some(kind) = kind {
        let _ = writeln!(out, "event: {}", kind.name());
    }
    out.extend_from_slice(b"data: ");
    write(out);
    out.push(b'\n');
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    out.push(b'\n');
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

/// Why a cursor could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// It is not of the form `<epoch>-<seq>`.
    Malformed,
    /// It belongs to another room, or to a history that is gone.
    Foreign,
    /// It lies beyond the last message.
    Ahead,
    /// More was missed than the client wants to have replayed.
    TooMany,
    /// Messages that followed it are gone.
    HistoryDamaged,
}

/// Data of `ping`.
#[derive(Debug, Serialize)]
pub struct Ping {
    /// The time by the clock of the gateway.
    pub server_time: String,
}

/// Data of `bye`.
#[derive(Debug, Serialize)]
pub struct Bye {
    /// Why the stream ends.
    pub reason: super::ByeReason,
    /// When to come back; absent where coming back is of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u32>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::domain::{Emoji, MessageId, StoredChange, StoredMessage, Timestamp};
    use uuid::Uuid;

    use super::*;

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
    fn a_stream_begins_with_more_than_512_bytes() {
        let prelude = prelude(2500);
        assert!(prelude.starts_with(b"retry: 2500\n:---"));
        assert!(prelude.ends_with(b"-\n") && !prelude.ends_with(b"\n\n"), "the block goes on");
        assert!(prelude.len() > 512);
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
