//! An answer as JSON, written room by room up to its bound.

use bytes::Bytes;
use serde::Serialize;
use shared::domain::{RoomEntry, Seq, StoredMessage, Timestamp};
use shared::storage::{GoneRoom, RoomState};

use crate::change_json;
use crate::json;
use crate::live::{ResetReason, entry_name};
use crate::message_json;
use crate::room_state_json;

/// Bytes of an answer at most, below the 1 MiB that are promised. One room always fits beside the names of those that are gone.
const PAGE_MAX_BYTES: usize = 960 * 1024;

/// Rooms that are gone and that one answer names; the others are named by the next one.
pub const GONE_AT_MOST: usize = 1_000;

/// Bytes of the entries of one room.
const ROOM_MAX_BYTES: usize = 256 * 1024;

/// Entries of one room, ascending by seq, as the items of a JSON array.
#[derive(Default)]
pub(super) struct Entries {
    json: Vec<u8>,
    /// The lowest seq, if there is one.
    pub(super) first: Option<Seq>,
}

impl Entries {
    /// Those of a room's log, ascending by seq: the newest that fit.
    pub(super) fn of(room: &str, entries: &[RoomEntry]) -> Self {
        Self::newest(entries.iter().map(|entry| (entry.seq(), encode(room, entry))))
    }

    /// The same of messages, as they stand now.
    pub(super) fn of_messages(room: &str, messages: &[StoredMessage]) -> Self {
        Self::newest(messages.iter().map(|message| (message.seq, encode_message(room, message))))
    }

    fn newest(items: impl DoubleEndedIterator<Item = (Seq, Vec<u8>)>) -> Self {
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for (seq, item) in items.rev() {
            bytes += item.len() + 1;
            if !kept.is_empty() && bytes > ROOM_MAX_BYTES {
                break;
            }
            kept.push((seq, item));
        }
        kept.reverse();
        Self {
            first: kept.first().map(|(seq, _)| *seq),
            json: kept.into_iter().map(|(_, item)| item).collect::<Vec<_>>().join(&b","[..]),
        }
    }
}

fn encode(room: &str, entry: &RoomEntry) -> Vec<u8> {
    match entry {
        RoomEntry::Message(message) => encode_message(room, message),
        RoomEntry::Change(stored) => {
            let mut out = format!(r#"{{"event":"{}","data":"#, entry_name(entry)).into_bytes();
            change_json::write(&mut out, room, stored);
            out.push(b'}');
            out
        }
    }
}

fn encode_message(room: &str, message: &StoredMessage) -> Vec<u8> {
    let mut out = br#"{"event":"message","data":"#.to_vec();
    message_json::write(&mut out, room, message);
    out.push(b'}');
    out
}

/// Writes the rooms of an answer.
#[derive(Default)]
pub(super) struct PageWriter {
    rooms: Vec<u8>,
    /// The names of rooms that are gone.
    gone: Vec<String>,
}

/// The members of an answer beside the rooms.
#[derive(Serialize)]
struct Envelope<'a> {
    cursor: &'a str,
    more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<ResetReason>,
    gone: &'a [String],
}

impl PageWriter {
    /// Adds names of rooms that are gone, and returns those of `gone` for which there is no room.
    pub(super) fn push_gone<'a>(&mut self, gone: &'a [GoneRoom]) -> &'a [GoneRoom] {
        let (named, rest) = gone.split_at(gone.len().min(GONE_AT_MOST - self.gone.len()));
        self.gone.extend(named.iter().map(|gone| gone.name.clone()));
        rest
    }

    /// Whether it has rooms.
    pub(super) fn has_rooms(&self) -> bool {
        !self.rooms.is_empty()
    }

    /// Adds a room with its entries, and the seqs of those missing before them. False if it does not fit any more.
    pub(super) fn push(&mut self, state: &RoomState, entries: &Entries, gap: Option<(Seq, Seq)>) -> bool {
        let mut room = Vec::with_capacity(entries.json.len() + 256);
        room_state_json::write(&mut room, state, Timestamp::now(), None);
        // The members of the object go on behind those of the state.
        room.pop();
        room.extend_from_slice(br#","entries":["#);
        room.extend_from_slice(&entries.json);
        room.push(b']');
        if let Some((from, to)) = gap {
            room.extend_from_slice(format!(r#","gap":{{"from":{},"to":{}}}"#, from.0, to.0).as_bytes());
        }
        room.push(b'}');
        if !self.rooms.is_empty() {
            // With quotes and a comma.
            let gone: usize = self.gone.iter().map(|name| name.len() + 3).sum();
            if gone + self.rooms.len() + room.len() > PAGE_MAX_BYTES {
                return false;
            }
            self.rooms.push(b',');
        }
        self.rooms.append(&mut room);
        true
    }

    /// The answer.
    pub(super) fn finish(self, cursor: &str, more: bool, reset: Option<ResetReason>) -> Bytes {
        let envelope = Envelope {
            cursor,
            more,
            reset,
            gone: &self.gone,
        };
        let mut out = Vec::with_capacity(self.rooms.len() + 512);
        json::write(&mut out, &envelope);
        out.pop();
        out.extend_from_slice(br#","rooms":["#);
        out.extend_from_slice(&self.rooms);
        out.extend_from_slice(b"]}");
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::RoomId;

    use super::*;

    #[test]
    fn of_many_entries_the_newest_are_kept() {
        let item = vec![b'x'; ROOM_MAX_BYTES / 4];
        let entries = Entries::newest((1..=10).map(|seq| (Seq(seq), item.clone())));
        assert_eq!(entries.first, Some(Seq(8)));
        let large = vec![b'x'; 2 * ROOM_MAX_BYTES];
        let one = Entries::newest([(Seq(1), item), (Seq(2), large)].into_iter());
        assert_eq!(one.first, Some(Seq(2)), "one always comes");
    }

    #[test]
    fn an_empty_answer_is_one_object() {
        let mut page = PageWriter::default();
        let gone = GoneRoom {
            room: RoomId(1),
            name: "den".to_owned(),
        };
        assert!(page.push_gone(&[gone]).is_empty());
        let answer = page.finish("AQ", false, None);
        assert_eq!(&answer[..], br#"{"cursor":"AQ","more":false,"gone":["den"],"rooms":[]}"#);
    }
}
