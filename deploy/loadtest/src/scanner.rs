//! Server-sent events (WHATWG HTML, section 9.2), found as the bytes come, at little cost for each: lines end at LF alone,
//! as both servers write them, and of a message nothing is read but its id and, where it is wanted, its stamp.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr2};

use crate::stamp::{Stamp, decimal};

/// Bytes of a line that are kept when it comes in parts: more than an id or the name of an event has.
const KEPT: usize = 64;
/// The same when the stamp in its data is wanted: more than what a message object has before its text.
const KEPT_FOR_STAMP: usize = 512;

/// Where the text of a message object begins, when it is one of ours.
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""message":"@"#));

/// One event, as far as anybody here wants to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// Its name.
    pub(crate) kind: Kind,
    /// Its id, if it is of our form.
    pub(crate) position: Option<Position>,
    /// What its text begins with, if that is wanted and there.
    pub(crate) stamp: Option<Stamp>,
}

/// The name of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// It has none: a message.
    #[default]
    Message,
    /// The stream is open.
    Ready,
    /// The client's cursor was of no use.
    Reset,
    /// The stream is silent.
    Ping,
    /// The server ends the stream.
    Bye,
    /// One that came later than this tool.
    Unknown,
}

/// A place in a room: `<epoch>-<seq>`, or `<second>:<number>` of Nchan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

/// Finds the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// The event so far.
    event: Event,
    /// It has data: without, it is none.
    has_data: bool,
    /// What came of a line that has not ended yet, up to what is kept.
    part: Vec<u8>,
    /// A line has begun and not ended.
    in_line: bool,
    wants_stamps: bool,
}

impl Scanner {
    /// Reads the stamps of messages too, or not.
    pub(crate) fn new(wants_stamps: bool) -> Self {
        Self {
            wants_stamps,
            ..Self::default()
        }
    }

    /// Hands every event that ends in `bytes` to `take`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Event)) {
        if self.in_line {
            let end = memchr(b'\n', bytes);
            self.keep(&bytes[..end.unwrap_or(bytes.len())]);
            let Some(end) = end else { return };
            let mut part = std::mem::take(&mut self.part);
            self.line(&part, &mut take);
            part.clear();
            self.part = part;
            self.in_line = false;
            bytes = &bytes[end + 1..];
        }
        while let Some(end) = memchr(b'\n', bytes) {
            self.line(&bytes[..end], &mut take);
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.in_line = true;
            self.keep(bytes);
        }
    }

    /// Notes part of a line.
    fn keep(&mut self, part: &[u8]) {
        let most = if self.wants_stamps { KEPT_FOR_STAMP } else { KEPT };
        let room = most.saturating_sub(self.part.len());
        self.part.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn line(&mut self, line: &[u8], take: &mut impl FnMut(Event)) {
        if let Some(data) = line.strip_prefix(b"data: ") {
            self.has_data = true;
            if self.wants_stamps && self.event.kind == Kind::Message {
                self.event.stamp = stamp(data);
            }
        } else if let Some(id) = line.strip_prefix(b"id: ") {
            self.event.position = position(id);
        } else if let Some(name) = line.strip_prefix(b"event: ") {
            self.event.kind = kind(name);
        } else if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                take(event);
            }
        }
    }
}

/// The stamp in a message object, or at the beginning of a text that is sent as it is.
fn stamp(data: &[u8]) -> Option<Stamp> {
    if data.first() == Some(&Stamp::MARK) {
        return Stamp::read(data);
    }
    let found = TEXT.find(data)?;
    Stamp::read(&data[found + TEXT.needle().len() - 1..])
}

fn position(id: &[u8]) -> Option<Position> {
    let dash = memchr2(b'-', b':', id)?;
    Some(Position {
        epoch: decimal(&id[..dash])?,
        seq: decimal(&id[dash + 1..])?,
    })
}

fn kind(name: &[u8]) -> Kind {
    match name {
        b"ready" => Kind::Ready,
        b"reset" => Kind::Reset,
        b"ping" => Kind::Ping,
        b"bye" => Kind::Bye,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What a scanner finds in `bytes` when they come in pieces of these sizes.
    fn scan(bytes: &[u8], sizes: &[usize], wants_stamps: bool) -> Vec<Event> {
        let mut scanner = Scanner::new(wants_stamps);
        let (mut events, mut rest) = (Vec::new(), bytes);
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(sizes.next().copied().unwrap_or(1)));
            scanner.feed(piece, |event| events.push(event));
            rest = later;
        }
        events
    }

    /// A message as the gateway writes it.
    fn message(seq: u64, stamp: Stamp, fill: usize) -> String {
        let mut text = vec![b'x'; Stamp::LEN + fill];
        stamp.write(&mut text);
        let text = String::from_utf8(text).unwrap_or_default();
        format!(
            "data: {{\"seq\":{seq},\"username\":\"\\\"message\\\":\\\"@\",\"message\":\"{text}\"}}\nid: 99-{seq}\n\n"
        )
    }

    fn stamps() -> impl Strategy<Value = Stamp> {
        (0..9_999_u64, 0..9_999_999_999_u64, 0..9_999_999_999_999_u64).prop_map(|(lane, count, posted)| Stamp {
            lane,
            count,
            posted,
        })
    }

    proptest! {
        #[test]
        fn events_are_found_wherever_they_are_split(stamps in vec((stamps(), 0..900_usize), 1..20), sizes in vec(1..700_usize, 1..20)) {
            let mut bytes = String::from("retry: 2500\n:-----\nevent: ready\ndata: {}\nid: 99-0\n\n");
            let ready = Event { kind: Kind::Ready, position: Some(Position { epoch: 99, seq: 0 }), stamp: None };
            let (mut sampled, mut plain) = (vec![ready], vec![ready]);
            for (number, (stamp, fill)) in stamps.into_iter().enumerate() {
                let position = Position { epoch: 99, seq: number as u64 + 1 };
                bytes.push_str(&message(position.seq, stamp, fill));
                plain.push(Event { position: Some(position), ..Event::default() });
                sampled.push(Event { position: Some(position), stamp: Some(stamp), kind: Kind::Message });
            }
            bytes.push_str("event: bye\ndata: {}\nid: 99-7\n\ndata: {}\nid");
            let position = Some(Position { epoch: 99, seq: 7 });
            let bye = Event { kind: Kind::Bye, position, stamp: None };
            plain.push(bye);
            sampled.push(bye);
            prop_assert_eq!(scan(bytes.as_bytes(), &sizes, false), plain);
            prop_assert_eq!(scan(bytes.as_bytes(), &sizes, true), sampled);
        }
    }

    #[test]
    fn a_text_that_is_sent_as_it_is_has_a_stamp() {
        let stamp = Stamp {
            lane: 3,
            count: 4,
            posted: 5,
        };
        let mut text = [b'x'; Stamp::LEN];
        stamp.write(&mut text);
        let bytes = [b": hi\n\nid: 1795676651:0\ndata: ", &text[..], b"\n\n"].concat();
        let event = Event {
            position: Some(Position {
                epoch: 1_795_676_651,
                seq: 0,
            }),
            stamp: Some(stamp),
            ..Event::default()
        };
        assert_eq!(scan(&bytes, &[7], true), [event]);
    }

    #[test]
    fn ids_of_other_forms_are_none() {
        for id in [&b""[..], b"7", b"-", b"7-", b"-7", b"7-x", b"7-8-9"] {
            assert_eq!(position(id), None, "{id:?}");
        }
    }
}
