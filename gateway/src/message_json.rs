//! The message object: what an app sees of a message, the same in history and on the stream.
//!
//! It has two forms with one meaning: [`Message`], which documents it, and [`write()`], which encodes it without a copy.

use poem_openapi::Object;
use serde::{Serialize, Serializer};
use shared::domain::{MessageId, ReactionCount, StoredMessage, Timestamp};
use time::OffsetDateTime;

use crate::json;

/// A point in time as apps see it, such as `2021-08-30T01:58:15.856Z`: RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    as_text(&digits(at)).to_owned()
}

/// The same without an allocation. It is written by hand, since a page of history has a hundred of them and the `time` crate
/// interprets a format description for each, which would take most of the time of encoding a message.
fn digits(at: Timestamp) -> [u8; 24] {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    let at = at.ok().filter(|at| (0..=9_999).contains(&at.year())).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |end: usize, mut number: u32| {
        let mut position = end;
        while number > 0 {
            position -= 1;
            text[position] += u8::try_from(number % 10).expect("a digit");
            number /= 10;
        }
    };
    put(4, at.year().unsigned_abs());
    put(7, u8::from(at.month()).into());
    put(10, at.day().into());
    put(13, at.hour().into());
    put(16, at.minute().into());
    put(19, at.second().into());
    put(23, at.millisecond().into());
    text
}

fn as_text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).expect("digits and signs are ASCII")
}

/// A message of a room's history, the same object on the stream.
#[derive(Clone, Object, Serialize)]
pub struct Message {
    /// Identity of the message for ever.
    pub id: String,
    /// Number in the room's log: between two messages there can be numbers of changes.
    pub seq: i64,
    /// Name of the room.
    pub name: String,
    /// Name of the sender. Two names can look alike: tell people apart by `public_id`.
    pub username: String,
    /// Public id of the sender, the same for ever and nobody else's.
    pub public_id: String,
    /// `MESSAGE`; further kinds may come, ignore those you do not know.
    pub message_type: String,
    /// The text.
    pub message: String,
    /// When it was accepted: RFC 3339, UTC, milliseconds.
    pub created_on: String,
    /// Id of the message that it replies to.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Names of the users that it mentions.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mentions: Option<Vec<String>>,
    /// When its text was changed last.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_on: Option<String>,
    /// True if it was deleted: its text is empty.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
    /// How many users react to it with which emoji.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reactions: Option<Vec<Reaction>>,
    /// Only where it was searched for: a part of the text as HTML, with what matches in `<mark>` and everything else escaped.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

/// An emoji on a message.
#[derive(Clone, Object, Serialize)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// How many users react with it.
    pub count: u32,
}

/// A point in time that is written as [`rfc3339`] does.
#[derive(Clone, Copy)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(as_text(&digits(self.0)))
    }
}

/// Adds the message object of a stored message of the room named `room` to `out`, as JSON.
pub fn write(out: &mut Vec<u8>, room: &str, stored: &StoredMessage) {
    write_with(out, room, stored, None);
}

/// The same of a message that was searched for, with the `snippet` that shows why it was found.
pub(crate) fn write_found(out: &mut Vec<u8>, room: &str, stored: &StoredMessage, snippet: &str) {
    write_with(out, room, stored, Some(snippet));
}

fn write_with(out: &mut Vec<u8>, room: &str, stored: &StoredMessage, snippet: Option<&str>) {
    /// The fields of [`Message`], in its order.
    #[derive(Serialize)]
    struct Shown<'a> {
        id: MessageId,
        seq: i64,
        name: &'a str,
        username: &'a str,
        public_id: &'a str,
        message_type: &'a str,
        message: &'a str,
        created_on: Time,
        #[serde(skip_serializing_if = "Option::is_none")]
        reply_to: Option<MessageId>,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        mentions: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        edited_on: Option<Time>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        deleted: bool,
        #[serde(skip_serializing_if = "<[ReactionCount]>::is_empty")]
        reactions: &'a [ReactionCount],
        #[serde(skip_serializing_if = "Option::is_none")]
        snippet: Option<&'a str>,
    }
    let extra = stored.extra.as_deref();
    let shown = Shown {
        id: stored.id,
        seq: stored.seq.0,
        name: room,
        username: &stored.username,
        public_id: &stored.public_id,
        message_type: &stored.kind,
        message: &stored.text,
        created_on: Time(stored.created_on),
        reply_to: extra.and_then(|extra| extra.reply_to),
        mentions: extra.map_or(&[], |extra| &extra.mentions),
        edited_on: extra.and_then(|extra| extra.edited_on).map(Time),
        deleted: extra.is_some_and(|extra| extra.deleted),
        reactions: extra.map_or(&[], |extra| &extra.reactions),
        snippet,
    };
    json::write(out, &shown);
}

#[cfg(test)]
mod tests {
    use shared::domain::{Emoji, MessageExtra, Seq};

    use super::*;

    #[test]
    fn both_forms_are_equal() {
        let stored = StoredMessage {
            seq: Seq(7),
            id: MessageId::fresh(),
            username: "ann \"\\".to_owned(),
            public_id: "ann-1".to_owned(),
            kind: "MESSAGE".to_owned(),
            text: "a\r\n\u{1}\u{2028}🦀\u{7f}".to_owned(),
            created_on: Timestamp(1_630_288_695_856),
            extra: MessageExtra {
                reply_to: Some(MessageId::fresh()),
                mentions: vec!["bob".to_owned()],
                edited_on: Some(Timestamp(0)),
                deleted: true,
                reactions: vec![ReactionCount {
                    emoji: Emoji::parse("🎉").unwrap(),
                    count: 2,
                }],
                posted_digest: Some(7),
            }
            .boxed(),
        };
        let extra = stored.extra.as_deref().unwrap();
        let documented = Message {
            id: stored.id.to_string(),
            seq: 7,
            name: "lobby".to_owned(),
            username: stored.username.clone(),
            public_id: "ann-1".to_owned(),
            message_type: stored.kind.clone(),
            message: stored.text.clone(),
            created_on: "2021-08-30T01:58:15.856Z".to_owned(),
            reply_to: extra.reply_to.map(|id| id.to_string()),
            mentions: Some(extra.mentions.clone()),
            edited_on: Some("1970-01-01T00:00:00.000Z".to_owned()),
            deleted: Some(true),
            reactions: Some(vec![Reaction {
                emoji: "🎉".to_owned(),
                count: 2,
            }]),
            snippet: Some("<mark>a</mark>".to_owned()),
        };
        let mut written = Vec::new();
        write_found(&mut written, "lobby", &stored, "<mark>a</mark>");
        let documented = serde_json::to_string(&documented).unwrap();
        let escaped = documented.replace('\u{2028}', "\\u2028").replace('\u{7f}', "\\u007f");
        assert_eq!(String::from_utf8(written).unwrap(), escaped);
    }

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(Timestamp(1_630_288_695_856)), "2021-08-30T01:58:15.856Z");
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(253_402_300_799_999)), "9999-12-31T23:59:59.999Z");
        for outside in [i64::MAX, i64::MIN] {
            assert_eq!(rfc3339(Timestamp(outside)), "1970-01-01T00:00:00.000Z");
        }
    }
}
