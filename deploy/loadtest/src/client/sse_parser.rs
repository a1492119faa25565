//! Finds server-sent events (WHATWG HTML, section 9.2) in bytes as they arrive, at little cost for each event: of a message only the id
//! is parsed and, on sampled streams, the tag.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

use crate::client::lines::{LineReader, Lines};
use crate::client::post_tag::{PostTag, decimal};

/// Bytes kept of a line that arrives in parts: more than an id or the name of an event has.
const KEPT_BYTES: usize = 64;
/// Bytes kept of such a line on a sampled stream: more than a message object has before its text.
const KEPT_BYTES_WITH_TAG: usize = 512;

/// Where the text begins in a message object that this tool has posted.
static TEXT_START: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""message":"@"#));

/// One event, with the fields that this tool uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SseEvent {
    /// The name of the event.
    pub(crate) kind: EventKind,
    /// The id, if it is a position.
    pub(crate) position: Option<Position>,
    /// The tag of the message, if tags are parsed and it has one.
    pub(crate) tag: Option<PostTag>,
}

/// The name of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum EventKind {
    /// An event without a name: a message.
    #[default]
    Message,
    /// Another entry of the room's log, such as a join.
    OtherEntry,
    /// The stream is open.
    Ready,
    /// The server could not resume from the client's position.
    Reset,
    /// The stream is alive although no message came.
    Ping,
    /// The server ends the stream.
    Bye,
    /// The states of rooms of the user, on a stream of all of them.
    Rooms,
    /// Somebody types in a room of the user, or stopped, on a stream of all of them.
    Typing,
    /// A name that this tool does not know.
    Unknown,
}

/// A position in a room: `<epoch>-<seq>` of Roomcast, or `<second>:<number>` of nchan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

/// Finds the events of the stream of a room.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    lines: Lines,
    unfinished: UnfinishedEvent,
}

/// What has come of an event that has not ended.
#[derive(Debug, Default)]
struct UnfinishedEvent {
    event: SseEvent,
    /// The event has data; without, it is none.
    has_data: bool,
    parses_tags: bool,
}

/// Passes on the events whose lines it takes.
struct EventReader<'a, F> {
    unfinished: &'a mut UnfinishedEvent,
    on_event: F,
}

impl SseParser {
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
    pub(crate) fn feed(&mut self, bytes: &[u8], on_event: impl FnMut(SseEvent)) {
        let unfinished = &mut self.unfinished;
        self.lines.feed(bytes, &mut EventReader { unfinished, on_event });
    }
}

impl<F: FnMut(SseEvent)> LineReader for EventReader<'_, F> {
    fn kept_bytes(&self) -> usize {
        if self.unfinished.parses_tags {
            KEPT_BYTES_WITH_TAG
        } else {
            KEPT_BYTES
        }
    }

    fn line(&mut self, line: &[u8]) {
        let UnfinishedEvent {
            event,
            has_data,
            parses_tags,
        } = &mut *self.unfinished;
        if let Some(data) = line.strip_prefix(b"data: ") {
            *has_data = true;
            if *parses_tags && event.kind == EventKind::Message {
                event.tag = tag(data);
            }
        } else if let Some(id) = line.strip_prefix(b"id: ") {
            event.position = position(id);
        } else if let Some(name) = line.strip_prefix(b"event: ") {
            event.kind = kind(name);
        } else if line.is_empty() {
            let event = std::mem::take(event);
            if std::mem::take(has_data) {
                (self.on_event)(event);
            }
        }
    }
}

/// The tag in a message object, or at the beginning of a text that is sent as it is.
pub(crate) fn tag(data: &[u8]) -> Option<PostTag> {
    if data.first() == Some(&PostTag::MARK) {
        return PostTag::parse(data);
    }
    let found = TEXT_START.find(data)?;
    PostTag::parse(&data[found + TEXT_START.needle().len() - 1..])
}

fn position(id: &[u8]) -> Option<Position> {
    let dash = memchr2(b'-', b':', id)?;
    Some(Position {
        epoch: decimal(&id[..dash])?,
        seq: decimal(&id[dash + 1..])?,
    })
}

/// The kind of the events of this name.
pub(crate) fn kind(name: &[u8]) -> EventKind {
    match name {
        b"edit" | b"delete" | b"reaction" | b"member" | b"room" => EventKind::OtherEntry,
        b"ready" => EventKind::Ready,
        b"reset" => EventKind::Reset,
        b"ping" => EventKind::Ping,
        b"bye" => EventKind::Bye,
        b"rooms" => EventKind::Rooms,
        b"typing" => EventKind::Typing,
        _ => EventKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The events that a parser finds in `bytes` when they arrive in pieces of these sizes.
    fn scan(bytes: &[u8], sizes: &[usize], parses_tags: bool) -> Vec<SseEvent> {
        let mut parser = SseParser::new(parses_tags);
        let (mut events, mut rest) = (Vec::new(), bytes);
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(sizes.next().copied().unwrap_or(1)));
            parser.feed(piece, |event| events.push(event));
            rest = later;
        }
        events
    }

    /// A message as the gateway writes it.
    fn message(seq: u64, tag: PostTag, fill: usize) -> String {
        let mut text = vec![b'x'; PostTag::LEN + fill];
        tag.write(&mut text);
        let text = String::from_utf8(text).unwrap_or_default();
        format!(
            "data: {{\"seq\":{seq},\"username\":\"\\\"message\\\":\\\"@\",\"message\":\"{text}\"}}\nid: 99-{seq}\n\n"
        )
    }

    fn tags() -> impl Strategy<Value = PostTag> {
        (0..9_999_u64, 0..9_999_999_999_u64, 0..9_999_999_999_999_u64).prop_map(|(connection, count, posted_us)| {
            PostTag {
                connection,
                count,
                posted_us,
            }
        })
    }

    proptest! {
        #[test]
        fn events_are_found_wherever_they_are_split(tags in vec((tags(), 0..900_usize), 1..20), sizes in vec(1..700_usize, 1..20)) {
            let mut bytes = String::from("retry: 2500\n:-----\nevent: ready\ndata: {}\nid: 99-0\n\n");
            let ready = SseEvent { kind: EventKind::Ready, position: Some(Position { epoch: 99, seq: 0 }), tag: None };
            let (mut sampled, mut plain) = (vec![ready], vec![ready]);
            for (number, (tag, fill)) in tags.into_iter().enumerate() {
                let position = Position { epoch: 99, seq: number as u64 + 1 };
                bytes.push_str(&message(position.seq, tag, fill));
                plain.push(SseEvent { position: Some(position), ..SseEvent::default() });
                sampled.push(SseEvent { position: Some(position), tag: Some(tag), kind: EventKind::Message });
            }
            bytes.push_str("event: member\ndata: {\"message\":\"@\"}\nid: 99-7\n\nevent: bye\ndata: {}\nid: 99-7\n\ndata: {}\nid");
            let position = Some(Position { epoch: 99, seq: 7 });
            let others = [EventKind::OtherEntry, EventKind::Bye].map(|kind| SseEvent { kind, position, tag: None });
            plain.extend(others);
            sampled.extend(others);
            prop_assert_eq!(scan(bytes.as_bytes(), &sizes, false), plain);
            prop_assert_eq!(scan(bytes.as_bytes(), &sizes, true), sampled);
        }
    }

    #[test]
    fn a_text_sent_as_it_is_has_a_tag() {
        let tag = PostTag {
            connection: 3,
            count: 4,
            posted_us: 5,
        };
        let mut text = [b'x'; PostTag::LEN];
        tag.write(&mut text);
        let bytes = [b": hi\n\nid: 1795676651:0\ndata: ", &text[..], b"\n\n"].concat();
        let event = SseEvent {
            position: Some(Position {
                epoch: 1_795_676_651,
                seq: 0,
            }),
            tag: Some(tag),
            ..SseEvent::default()
        };
        assert_eq!(scan(&bytes, &[7], true), [event]);
    }

    #[test]
    fn ids_of_other_forms_are_no_position() {
        for id in [&b""[..], b"7", b"-", b"7-", b"-7", b"7-x", b"7-8-9"] {
            assert_eq!(position(id), None, "{id:?}");
        }
    }
}
