//! Formats dead letters for terminals and for programs.

use serde_json::json;
use shared::domain::Timestamp;
use shared::storage::DeadLetter;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::dead_letter_encoding as encoding;

/// RFC 3339 in UTC with milliseconds, as in the API.
const RFC3339_MS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The columns of the table.
const HEADINGS: [&str; 6] = ["id", "time", "partition", "room", "sender", "reason"];

/// A table with one line for each letter. It shows no text of messages.
pub(super) fn table(letters: &[DeadLetter]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(letters.iter().map(|letter| {
        [
            letter.id.to_string(),
            time(letter.created_on),
            letter.partition.to_string(),
            number(letter, "room").map(|room| room.to_string()).unwrap_or_default(),
            number(letter, "sender").map(|sender| sender.to_string()).unwrap_or_default(),
            printable(&letter.reason),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// One JSON object a line. It shows no text of messages.
pub(super) fn json_lines(letters: &[DeadLetter]) -> String {
    let line = |letter: &DeadLetter| {
        let object = json!({
            "id": letter.id,
            "created_on": time(letter.created_on),
            "partition": letter.partition,
            "stream_id": letter.log_entry_id,
            "room": number(letter, "room"),
            "sender": number(letter, "sender"),
            "reason": letter.reason,
        });
        format!("{object}\n")
    };
    letters.iter().map(line).collect()
}

/// Everything about one letter, with its entry.
pub(super) fn whole(letter: &DeadLetter) -> String {
    let lines = [
        ("id", letter.id.to_string()),
        ("time", time(letter.created_on)),
        ("partition", letter.partition.to_string()),
        ("stream id", printable(&letter.log_entry_id)),
        ("reason", printable(&letter.reason)),
        ("entry", printable(&letter.entry)),
    ];
    let lines = lines.map(|(name, value)| format!("{name:9}  {value}\n"));
    lines.concat()
}

/// A field that holds a number; anything else that another party put there stays out of tables.
fn number(letter: &DeadLetter, name: &str) -> Option<i64> {
    let fields = encoding::decode(&letter.entry)?;
    let (_, value) = fields.into_iter().find(|(field, _)| field == name.as_bytes())?;
    std::str::from_utf8(&value).ok()?.parse().ok()
}

fn time(at: Timestamp) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    at.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(RFC3339_MS).unwrap_or_default()
}

/// The text without characters that a terminal would interpret.
fn printable(text: &str) -> String {
    let show = |c: char| {
        if c.is_control() {
            c.escape_unicode().collect()
        } else {
            String::from(c)
        }
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use shared::domain::Partition;

    use super::*;

    fn letters() -> [DeadLetter; 2] {
        let letter = |id, entry: &str| DeadLetter {
            id,
            partition: Partition(3),
            log_entry_id: "5-1".to_owned(),
            reason: "there is no such room".to_owned(),
            entry: entry.to_owned(),
            created_on: Timestamp(1_700_000_000_123),
        };
        [
            letter(7, r#"{"room":42,"sender":1,"text":"a secret"}"#),
            letter(12, "[[\"room\",\"\u{1b}[2J\"]]"),
        ]
    }

    #[test]
    fn table_shows_what_is_known_and_no_text() {
        let expected = "\
id  time                      partition  room  sender  reason
7   2023-11-14T22:13:20.123Z  3          42    1       there is no such room
12  2023-11-14T22:13:20.123Z  3                        there is no such room
";
        assert_eq!(table(&letters()), expected);
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let first = r#"{"id":7,"created_on":"2023-11-14T22:13:20.123Z","partition":3,"stream_id":"5-1","room":42,"sender":1,"reason":"there is no such room"}"#;
        assert_eq!(json_lines(&letters()).lines().next(), Some(first));
    }

    #[test]
    fn control_characters_are_escaped() {
        let shown = whole(&letters()[1]);
        assert!(shown.contains(r"\u{1b}[2J") && !shown.contains('\u{1b}'), "{shown}");
    }
}
