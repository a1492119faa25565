//! The message object: what an app sees of a message, the same in history and on the stream.

use poem_openapi::Object;
use serde::Serialize;
use shared::domain::{StoredMessage, Timestamp};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// RFC 3339 in UTC with milliseconds.
const RFC3339_MS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A point in time as apps see it, such as `2021-08-30T01:58:15.856Z`.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    at.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(RFC3339_MS).unwrap_or_default()
}

/// A message of a room's history, the same object on the stream.
#[derive(Clone, Object, Serialize)]
pub struct Message {
    /// Identity of the message for ever.
    pub id: String,
    /// Place in the room: 1, 2, 3 … without a hole.
    pub seq: i64,
    /// Name of the room.
    pub name: String,
    /// Name of the sender.
    pub username: String,
    /// `MESSAGE`; further kinds may come, ignore those you do not know.
    pub message_type: String,
    /// The text.
    pub message: String,
    /// When it was accepted: RFC 3339, UTC, milliseconds.
    pub created_on: String,
}

impl Message {
    /// A stored message of the room named `room`.
    #[must_use]
    pub fn of(room: &str, stored: &StoredMessage) -> Self {
        Self {
            id: stored.id.to_string(),
            seq: stored.seq.0,
            name: room.to_owned(),
            username: stored.username.clone(),
            message_type: stored.kind.clone(),
            message: stored.text.clone(),
            created_on: rfc3339(stored.created_on),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(Timestamp(1_630_288_695_856)), "2021-08-30T01:58:15.856Z");
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(i64::MAX)), "1970-01-01T00:00:00.000Z");
    }
}
