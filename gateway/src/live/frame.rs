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
use shared::domain::StreamCursor;

use super::event_kind::Kind;
use crate::json;

/// Length of the comment every stream begins with: some HTTP clients show nothing until they have 512 bytes.
const PADDING: usize = 512;

/// About how many bytes an event takes beside the text of a message.
const EVENT_OVERHEAD: usize = 320;

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

/// An event as a frame; see [`push_event`].
#[must_use]
pub fn event(kind: Kind, cursor: Option<StreamCursor>, data: &impl Serialize) -> Frame {
    encode(Some(kind), cursor, 0, |out| {
        json::write(out, data);
    })
}

/// An event as a frame: its data is the one line of JSON that `write` adds, with about `text` bytes of a message. Messages have no kind.
pub(super) fn encode(
    kind: Option<Kind>,
    cursor: Option<StreamCursor>,
    text: usize,
    write: impl FnOnce(&mut Vec<u8>),
) -> Frame {
    let capacity = CHUNK_PREFIX.len() + EVENT_OVERHEAD + text + CHUNK_SUFFIX.len();
    let mut chunk = Vec::with_capacity(capacity);
    push_chunk(&mut chunk, |out| push(out, kind, cursor, write));
    Frame(chunk.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_begins_with_more_than_512_bytes() {
        let prelude = prelude(2500);
        assert!(prelude.starts_with(b"retry: 2500\n:---"));
        assert!(prelude.ends_with(b"-\n") && !prelude.ends_with(b"\n\n"), "the block goes on");
        assert!(prelude.len() > 512);
    }
}
