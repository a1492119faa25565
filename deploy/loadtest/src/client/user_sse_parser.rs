//! Finds the events of a stream of all rooms of a user, at little cost for each entry: of its data only the beginning is looked at.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};
use serde::Deserialize;

use crate::client::lines::{LineReader, Lines};
use crate::client::post_tag::{PostTag, decimal};
use crate::client::sse_parser::{EventKind, kind, tag};

/// Bytes kept of the data of an entry that arrives in parts: more than it has before the text of a message.
const KEPT_BYTES: usize = 512;
/// Bytes kept of a line with states of rooms: more than one event has.
const KEPT_BYTES_OF_ROOMS: usize = 1024 * 1024;
/// Bytes kept of an id: the longest cursor.
const KEPT_BYTES_OF_ID: usize = 8 * 1024;

static SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""seq":"#));
static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""name":""#));

/// One event, with the fields that this tool uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserEvent<'a> {
    /// The name of the event.
    pub(crate) kind: EventKind,
    /// Of an entry: the number of its room, which the name of each room of a run ends with, and its seq.
    pub(crate) entry: Option<(usize, u64)>,
    /// The tag of the message, if tags are parsed and it has one.
    pub(crate) tag: Option<PostTag>,
    /// The states of rooms in the event.
    pub(crate) rooms: &'a [RoomState],
    /// The stream resumes from the cursor of the client.
    pub(crate) has_recovered: bool,
    /// The id: the cursor of the client when it has got this event; empty if there is none.
    pub(crate) id: &'a [u8],
}

/// The state of a room in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomState {
    /// Its number; `None` if it is none of the run.
    pub(crate) room: Option<usize>,
    /// The seq of its last entry; `None` if it is gone.
    pub(crate) head: Option<u64>,
}

/// The data of an event with states of rooms.
#[derive(Deserialize)]
struct RoomsData {
    #[serde(default)]
    recovered: bool,
    #[serde(default)]
    rooms: Vec<RoomData>,
}

#[derive(Deserialize)]
struct RoomData {
    name: String,
    head: Option<u64>,
}

/// Finds the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct UserSseParser {
    lines: Lines,
    unfinished: UnfinishedEvent,
}

/// What has come of an event that has not ended.
#[derive(Debug, Default)]
struct UnfinishedEvent {
    kind: EventKind,
    has_data: bool,
    entry: Option<(usize, u64)>,
    tag: Option<PostTag>,
    rooms: Vec<RoomState>,
    has_recovered: bool,
    id: Vec<u8>,
    parses_tags: bool,
}

/// Passes on the events whose lines it takes.
struct EventReader<'a, F> {
    unfinished: &'a mut UnfinishedEvent,
    on_event: F,
}

impl UserSseParser {
    /// A parser that also parses the tags of messages if `parses_tags`.
    pub(crate) fn new(parses_tags: bool) -> Self {
        Self {
            unfinished: UnfinishedEvent {
                parses_tags,
                ..UnfinishedEvent::default()
            },
            ..Self::default()
        }
    }

    /// Passes every event that ends in `bytes` to `on_event`.
    pub(crate) fn feed(&mut self, bytes: &[u8], on_event: impl FnMut(&UserEvent<'_>)) {
        let unfinished = &mut self.unfinished;
        self.lines.feed(bytes, &mut EventReader { unfinished, on_event });
    }
}

impl<F: FnMut(&UserEvent<'_>)> LineReader for EventReader<'_, F> {
    fn kept_bytes(&self) -> usize {
        // The id comes after the data.
        match self.unfinished.kind {
            _ if self.unfinished.has_data => KEPT_BYTES_OF_ID,
            EventKind::Ready | EventKind::Reset | EventKind::Rooms => KEPT_BYTES_OF_ROOMS,
            EventKind::Message
            | EventKind::OtherEntry
            | EventKind::Typing
            | EventKind::Ping
            | EventKind::Bye
            | EventKind::Unknown => KEPT_BYTES,
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let Some(data) = line.strip_prefix(b"data: ") {
            self.unfinished.data(data);
        } else if let Some(id) = line.strip_prefix(b"id: ") {
            self.unfinished.id.extend_from_slice(id);
        } else if let Some(name) = line.strip_prefix(b"event: ") {
            self.unfinished.kind = kind(name);
        } else if line.is_empty() {
            if self.unfinished.has_data {
                (self.on_event)(&self.unfinished.event());
            }
            self.unfinished.clear();
        }
    }
}

impl UnfinishedEvent {
    fn data(&mut self, data: &[u8]) {
        self.has_data = true;
        match self.kind {
            EventKind::Message | EventKind::OtherEntry => {
                self.entry = entry(data);
                if self.parses_tags && self.kind == EventKind::Message {
                    self.tag = tag(data);
                }
            }
            EventKind::Ready | EventKind::Reset | EventKind::Rooms => {
                // Data that is no JSON counts as a room that is none of the run, which is a violation.
                let data = serde_json::from_slice(data).unwrap_or_else(|_| RoomsData::unparsable());
                self.has_recovered = data.recovered;
                self.rooms.extend(data.rooms.iter().map(RoomData::state));
            }
            EventKind::Typing | EventKind::Ping | EventKind::Bye | EventKind::Unknown => {}
        }
    }

    fn event(&self) -> UserEvent<'_> {
        UserEvent {
            kind: self.kind,
            entry: self.entry,
            tag: self.tag,
            rooms: &self.rooms,
            has_recovered: self.has_recovered,
            id: &self.id,
        }
    }

    /// Begins the next event, in the same buffers.
    fn clear(&mut self) {
        self.rooms.clear();
        self.id.clear();
        *self = Self {
            rooms: std::mem::take(&mut self.rooms),
            id: std::mem::take(&mut self.id),
            parses_tags: self.parses_tags,
            ..Self::default()
        };
    }
}

impl RoomsData {
    fn unparsable() -> Self {
        Self {
            recovered: false,
            rooms: vec![RoomData {
                name: String::new(),
                head: None,
            }],
        }
    }
}

impl RoomData {
    fn state(&self) -> RoomState {
        RoomState {
            room: room_number(self.name.as_bytes()),
            head: self.head,
        }
    }
}

/// The number of the room and the seq in the data of an entry. Both come before everything that users wrote.
fn entry(data: &[u8]) -> Option<(usize, u64)> {
    let after_seq = &data[SEQ.find(data)? + SEQ.needle().len()..];
    let digits = after_seq.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after_name = &after_seq[NAME.find(after_seq)? + NAME.needle().len()..];
    let name = &after_name[..memchr(b'"', after_name)?];
    Some((room_number(name)?, decimal(&after_seq[..digits])?))
}

/// The number that the name of a room ends with.
fn room_number(name: &[u8]) -> Option<usize> {
    let dash = memrchr(b'-', name)?;
    usize::try_from(decimal(&name[dash + 1..])?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = concat!(
        "retry: 2500\n:-----\n",
        "event: ready\ndata: {\"session\":\"x\",\"recovered\":true,\"rooms\":[{\"name\":\"load-7-3\",\"kind\":\"room\",\"head\":12}]}\nid: AQ\n\n",
        "event: rooms\ndata: {\"rooms\":[{\"name\":\"load-7-11\",\"gone\":true},{\"name\":\"lobby\",\"head\":1}]}\nid: AQab_-\n\n",
        "data: {\"id\":\"01a2\",\"seq\":13,\"name\":\"load-7-3\",\"username\":\"\\\"seq\\\":99\",\"message\":\"@0001.0000000002.0000000000003 x\"}\nid: AQcd\n\n",
        "event: member\ndata: {\"seq\":14,\"name\":\"load-7-3\",\"username\":\"a\"}\nid: AQce\n\n",
        "event: typing\ndata: {\"name\":\"load-7-3\"}\n\n",
        "event: ping\ndata: {}\nid: AQcf\n\n",
    );

    type Found = (EventKind, Option<(usize, u64)>, Vec<RoomState>, bool, String, Option<PostTag>);

    fn scan(sizes: &[usize], parses_tags: bool) -> Vec<Found> {
        let mut parser = UserSseParser::new(parses_tags);
        let (mut events, mut rest) = (Vec::new(), STREAM.as_bytes());
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(sizes.next().copied().unwrap_or(1)));
            parser.feed(piece, |event| {
                let id = String::from_utf8(event.id.to_vec()).unwrap_or_default();
                events.push((event.kind, event.entry, event.rooms.to_vec(), event.has_recovered, id, event.tag));
            });
            rest = later;
        }
        events
    }

    fn expected(parses_tags: bool) -> Vec<Found> {
        let state = |room, head| RoomState { room, head };
        let tag = parses_tags.then_some(PostTag {
            connection: 1,
            count: 2,
            posted_us: 3,
        });
        let id = str::to_owned;
        vec![
            (EventKind::Ready, None, vec![state(Some(3), Some(12))], true, id("AQ"), None),
            (EventKind::Rooms, None, vec![state(Some(11), None), state(None, Some(1))], false, id("AQab_-"), None),
            (EventKind::Message, Some((3, 13)), vec![], false, id("AQcd"), tag),
            (EventKind::OtherEntry, Some((3, 14)), vec![], false, id("AQce"), None),
            (EventKind::Typing, None, vec![], false, id(""), None),
            (EventKind::Ping, None, vec![], false, id("AQcf"), None),
        ]
    }

    proptest! {
        #[test]
        fn events_are_found_wherever_they_are_split(sizes in vec(1..200_usize, 1..20)) {
            prop_assert_eq!(scan(&sizes, false), expected(false));
            prop_assert_eq!(scan(&sizes, true), expected(true));
        }
    }

    #[test]
    fn an_entry_of_no_room_of_the_run_has_no_number() {
        for data in [
            r#"{"seq":1,"name":"lobby"}"#,
            r#"{"seq":1,"name":"a-"}"#,
            r#"{"seq":1}"#,
            r#"{"name":"a-1"}"#,
            "",
        ] {
            assert_eq!(entry(data.as_bytes()), None, "{data}");
        }
    }
}
