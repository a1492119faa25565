//! Parses entries of the accept log. They are not trusted: anybody with access to Redis could have written them.

use shared::bus::{InvalidEntry, KeySpace, decode_entry};
use shared::domain::{LogEntryId, Partition, Timestamp};
use shared::storage::{Entry, EntryContent};

use crate::dead_letter_encoding::{self as encoding, Field};

/// An entry in Redis's reply: its id, and a flat list of fields and values.
pub(super) type RawEntry = (String, Vec<Vec<u8>>);

/// Why an entry is set aside that came through another partition than its room's. Stored from there, the room would have two
/// writers at a time, and no order.
const OTHER_PARTITION: &str = "its room belongs to another partition";

/// Where and when entries were read, and which ids are allowed there.
#[derive(Clone, Copy)]
pub(super) struct EntryContext<'a> {
    /// The names of the installation.
    pub(super) keys: &'a KeySpace,
    /// How many partitions it has.
    pub(super) partitions: u16,
    /// The partition of the entries.
    pub(super) partition: Partition,
    /// Up to where ids may lie, in milliseconds.
    pub(super) horizon: i64,
    /// When they were read: after an upgrade entries need no code for some time.
    pub(super) now: Timestamp,
}

/// Parses `raw` up to the first entry whose id lies too far ahead; returns that id too, if there is one.
pub(super) fn parse_entries(raw: Vec<RawEntry>, context: EntryContext<'_>) -> (Vec<Entry>, Option<String>) {
    let mut entries = Vec::with_capacity(raw.len());
    for (id, flat) in raw {
        match parse_entry(&id, flat, context) {
            Some(entry) => entries.push(entry),
            None => return (entries, Some(id)),
        }
    }
    (entries, None)
}

/// Parses one entry; `None` if its id lies too far ahead for a position.
fn parse_entry(id: &str, flat: Vec<Vec<u8>>, context: EntryContext<'_>) -> Option<Entry> {
    let log_entry_id = parse_id(id, context.horizon)?;
    let mut flat = flat.into_iter();
    let fields: Vec<Field> = std::iter::from_fn(|| flat.next().zip(flat.next())).collect();
    let dead = |reason| EntryContent::DeadLetter {
        reason,
        entry: encoding::encode(&fields),
    };
    Some(Entry {
        log_entry_id,
        content: match decode_entry(&fields, context.keys, context.now) {
            Ok(command) if Partition::of(command.room(), context.partitions) == context.partition => command.into(),
            Ok(_) => dead(OTHER_PARTITION.to_owned()),
            Err(error) => {
                if let InvalidEntry::NotAuthentic(error) = &error {
                    error.report("entry of the accept log");
                }
                dead(error.to_string())
            }
        },
    })
}

/// The id, unless its time lies past `horizon` or its counter past 10^18. Redis would go on from there, the position would follow,
/// and at the end no position could express the next id. No process of this installation creates such ids.
fn parse_id(id: &str, horizon: i64) -> Option<LogEntryId> {
    let (ms, counter) = id.split_once('-')?;
    let id: LogEntryId = (ms.len() <= 14 && counter.len() <= 18).then(|| id.parse().ok()).flatten()?;
    (id.ms <= horizon).then_some(id)
}

#[cfg(test)]
mod tests {
    use shared::bus::MacKey;

    use super::*;

    fn parse_entries(raw: Vec<RawEntry>) -> (Vec<Entry>, Option<String>) {
        let context = EntryContext {
            keys: &KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, MacKey::fresh()),
            partitions: 1,
            partition: Partition(0),
            horizon: 1_700_000_000_000,
            now: Timestamp(1_700_000_000_000),
        };
        super::parse_entries(raw, context)
    }

    fn raw(id: &str) -> RawEntry {
        (id.to_owned(), vec![b"text".to_vec(), b"\xff\0".to_vec()])
    }

    #[test]
    fn parsing_ends_at_an_id_beyond_every_position() {
        for far in [
            "18446744073709551615-1",
            "100000000000000-0",
            "5-9223372036854775807",
            // Past the horizon.
            "1700000000001-0",
        ] {
            let (entries, found) = parse_entries(vec![raw("1700000000000-3"), raw(far), raw("1700000000000-4")]);
            assert_eq!((entries.len(), found.as_deref()), (1, Some(far)));
        }
        let (entries, found) = parse_entries(vec![raw("1699999999999-3"), raw("1700000000000-0")]);
        assert_eq!((entries.len(), found), (2, None));
    }

    #[test]
    fn bytes_that_are_not_text_are_kept() {
        let (mut entries, _) = parse_entries(vec![raw("1-1")]);
        match entries.remove(0).content {
            EntryContent::DeadLetter { reason, entry } => {
                assert_eq!(
                    (reason.as_str(), entry.as_str()),
                    ("field 'text' is not valid", r#"[["text",{"hex":"ff00"}]]"#)
                );
            }
            EntryContent::Message(_) | EntryContent::Change(_) | EntryContent::Outbox(_) => panic!("no dead letter"),
        }
    }
}
