//! Messages: their text, their ids and idempotency keys, and their form before and after they are stored.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use uuid::fmt::Hyphenated;
use uuid::{Uuid, Variant};

use super::text::is_blank;
use super::{ChangeRequest, Emoji, GatewayId, Invalid, MessageId, RoomId, Seq, Timestamp, UserId, check_length};

/// The `message_type` of a plain text message, the only kind so far.
pub const MESSAGE_KIND: &str = "MESSAGE";

/// Text of a message: 1–4,000 characters other than U+0000. A new message must have a visible one.
///
/// `Debug` shows its length only, since message text must never reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageText(Box<str>);

impl MessageText {
    /// The longest accepted text, in characters.
    pub const MAX_LEN: usize = 4_000;

    /// The most bytes that a character takes in JSON: two escapes of UTF-16 (RFC 8259, section 7).
    pub const MAX_JSON_BYTES_A_CHARACTER: usize = 12;

    /// Accepts `raw` unchanged as the text of a new message, or returns why not.
    pub fn parse_new(raw: &str) -> Result<Self, Invalid> {
        let text = Self::parse(raw)?;
        if is_blank(raw) {
            return Err(Invalid::new("message", "blank", "Nothing of it can be seen."));
        }
        Ok(text)
    }

    /// Accepts `raw` unchanged if any release has accepted it from a client, or returns why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("message", raw, 1, Self::MAX_LEN)?;
        if raw.contains('\0') {
            // Postgres cannot store it in a text column. Refused here, it never becomes an entry that no commit can store.
            let message = "The character U+0000 is not allowed.";
            return Err(Invalid::new("message", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// The text as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Sixteen bits of a hash of `text`. They tell a repeated request from another one under the same key after the text was
    /// changed or deleted, and are too few to guess the text from.
    #[must_use]
    pub fn digest(text: &str) -> u16 {
        let hash = digest(&SHA256, text.as_bytes());
        u16::from_be_bytes([hash.as_ref()[0], hash.as_ref()[1]])
    }
}

impl std::fmt::Debug for MessageText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MessageText({} bytes)", self.0.len())
    }
}

/// Identifies a request of a sender, so that a retry of it is recognised: 1–64 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// The longest accepted key, in characters.
    pub const MAX_LEN: usize = 64;

    /// Accepts `raw` unchanged or returns why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("Idempotency-Key", raw, 1, Self::MAX_LEN)?;
        if !raw.bytes().all(|b| b.is_ascii_graphic()) {
            let message = "Use visible ASCII characters only.";
            return Err(Invalid::new("Idempotency-Key", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// The timestamp of the key, if it is a UUIDv7 with hyphens (RFC 9562, section 5.7).
    fn timestamp(&self) -> Option<Timestamp> {
        let uuid = Uuid::try_parse(&self.0).ok().filter(|_| self.0.len() == Hyphenated::LENGTH)?;
        let is_ordered = uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122;
        let millis = uuid.as_u64_pair().0 >> 16;
        is_ordered.then(|| Timestamp(i64::try_from(millis).expect("48 bits")))
    }
}

/// Namespace of the ids of changes that are derived from idempotency keys: a random constant that must never change.
const KEYED_CHANGES: Uuid = Uuid::from_u128(0x1be7_40c3_92d5_4c1e_8a6f_5d20_77b3_e914);

/// Namespace of the message ids that are derived from idempotency keys: a random constant that must never change.
const KEYED_MESSAGES: Uuid = Uuid::from_u128(0x5f0c_9a52_3c7e_4f0b_9d57_1b7c_42e8_a6d1);

impl MessageId {
    /// A new id (UUIDv7). Ids that are generated later sort later, which keeps the unique index compact.
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The message id of the request that `sender` identified by `key`: always the same, on every gateway.
    ///
    /// If the key is a UUIDv7, the id begins with its timestamp (UUIDv8: 48 bits of milliseconds, then 74 bits of a hash), so
    /// that the unique index grows at one end. For any other key, the id is a hash only (UUIDv5): such ids are spread over the
    /// whole index, and each message writes a page of its own there. A key whose timestamp is before `ordered_from` gets a hash
    /// only, for ever, since gateways of earlier versions gave it one.
    #[must_use]
    pub fn keyed(sender: UserId, key: &IdempotencyKey, ordered_from: Timestamp) -> Self {
        let mut name = sender.0.to_be_bytes().to_vec();
        name.extend_from_slice(key.0.as_bytes());
        let hash = Uuid::new_v5(&KEYED_MESSAGES, &name);
        let Some(timestamp) = key.timestamp().filter(|timestamp| *timestamp >= ordered_from) else {
            return Self(hash);
        };
        let mut bytes = hash.into_bytes();
        bytes[..6].copy_from_slice(&timestamp.0.to_be_bytes()[2..]);
        Self(Uuid::new_v8(bytes))
    }

    /// The id of the change of the message `target` that `sender` requested under `key`: always the same, on every gateway, and no
    /// message has it. Another request under the same key is another change.
    #[must_use]
    pub fn keyed_change(sender: UserId, target: Self, key: &IdempotencyKey, request: &ChangeRequest) -> Self {
        let mut name = sender.0.to_be_bytes().to_vec();
        name.extend_from_slice(target.0.as_bytes());
        name.extend_from_slice(key.0.as_bytes());
        // No key has a zero byte.
        let words = match request {
            ChangeRequest::Edit { text, .. } => [ChangeRequest::EDIT, text.as_str()],
            ChangeRequest::Delete { .. } => [ChangeRequest::DELETE, ""],
            ChangeRequest::React { emoji, on: true } => [ChangeRequest::REACT, emoji.as_str()],
            ChangeRequest::React { emoji, on: false } => ["unreact", emoji.as_str()],
        };
        for word in words {
            name.push(0);
            name.extend_from_slice(word.as_bytes());
        }
        Self(Uuid::new_v5(&KEYED_CHANGES, &name))
    }

    /// The id under which a message is stored if another message already has this one. It is derived from the room and the text,
    /// so that the same entry gets the same id when it is read again.
    #[must_use]
    pub fn derived_for(self, room: RoomId, text: &MessageText) -> Self {
        let mut name = room.0.to_be_bytes().to_vec();
        name.extend_from_slice(text.as_str().as_bytes());
        Self(Uuid::new_v5(&self.0, &name))
    }
}

/// A message that was accepted and has no seq yet: an entry of the accept log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, by which a repeated entry is recognised.
    pub id: MessageId,
    /// The room it was posted to.
    pub room: RoomId,
    /// Who posted it.
    pub sender: UserId,
    /// What was posted.
    pub text: MessageText,
    /// The message that it replies to.
    pub in_reply_to: Option<MessageId>,
    /// The users that it mentions.
    pub mentions: Vec<UserId>,
    /// When the gateway accepted it.
    pub created_on: Timestamp,
    /// The gateway that waits until the message is stored, if one does.
    pub reply_to: Option<GatewayId>,
}

/// A message in a room's history, as storage returns it and room events carry it. The SQL statements name its fields in this
/// order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// Position in the room.
    pub seq: Seq,
    /// Its id.
    pub id: MessageId,
    /// Name of the sender. Names of two users can look the same.
    pub username: String,
    /// Public id of the sender, which is unique.
    pub public_id: String,
    /// The kind of message, such as [`MESSAGE_KIND`].
    pub kind: String,
    /// The text.
    pub text: String,
    /// When the gateway accepted it.
    pub created_on: Timestamp,
    /// What most messages have nothing of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<MessageExtra>>,
}

impl StoredMessage {
    /// A message of a user `ann` that is not in any database.
    #[must_use]
    #[cfg(any(test, feature = "testing"))]
    pub fn for_tests(seq: i64, text: impl Into<String>) -> Self {
        Self {
            seq: Seq(seq),
            id: MessageId::fresh(),
            username: "ann".to_owned(),
            public_id: "ann".to_owned(),
            kind: MESSAGE_KIND.to_owned(),
            text: text.into(),
            created_on: Timestamp(1_630_288_695_856),
            extra: None,
        }
    }
}

/// What a message has beside its text, as it stands now. All of it is optional. SQL keeps it as one JSON object with the message,
/// so that a page costs nothing for messages without it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageExtra {
    /// The message that it replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// Names of the users that it mentions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// When its text was changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_on: Option<Timestamp>,
    /// It was deleted: its text is empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// How many users react to it with which emoji, in the order in which each came up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<ReactionCount>,
    /// What [`MessageText::digest`] was when it was posted, if its text is another one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posted_digest: Option<u16>,
}

/// How many users react to a message with an emoji.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionCount {
    /// The emoji.
    pub emoji: Emoji,
    /// How many users; never 0.
    pub count: u32,
}

impl MessageExtra {
    /// The most different emojis on a message.
    pub const MAX_REACTIONS: usize = 20;

    /// The most users that a message mentions.
    pub const MAX_MENTIONS: usize = 50;

    /// Whether a message that was posted with `text` is this one, whose text is now `current`.
    #[must_use]
    pub fn was_posted_with(&self, text: &str, current: &str) -> bool {
        self.posted_digest.map_or_else(|| text == current, |posted| posted == MessageText::digest(text))
    }

    /// What is kept of it: nothing if there is nothing.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_measured_in_characters_not_bytes() {
        assert!(MessageText::parse(&"🦀".repeat(4_000)).is_ok());
        assert_eq!(MessageText::parse(&"a".repeat(4_001)).unwrap_err().code, "too_long");
        assert_eq!(MessageText::parse("").unwrap_err().code, "too_short");
        assert_eq!(MessageText::parse("a\0b").unwrap_err().code, "bad_characters");
        assert!(MessageText::parse("\r\n\n data: x\u{2028}").is_ok());
        assert!(MessageText::parse_new("\r\n\n data: x\u{2028}").is_ok());
    }

    #[test]
    fn only_a_new_message_must_be_visible() {
        for blank in [" ", "\n\n", "\u{3164}", "\u{200B}\u{FEFF}"] {
            assert_eq!(MessageText::parse_new(blank).unwrap_err().code, "blank", "{blank:?}");
            assert!(MessageText::parse(blank).is_ok());
        }
        assert_eq!(MessageText::parse_new("").unwrap_err().code, "too_short");
    }

    #[test]
    fn a_repeated_request_and_no_other_has_the_same_id() {
        let id = |sender, key| MessageId::keyed(UserId(sender), &IdempotencyKey::parse(key).unwrap(), Timestamp(0));
        assert_eq!(id(7, "k1").to_string(), "95bfdd07-24bc-5af6-b743-1c9693e092bc");
        assert_ne!(id(7, "k1"), id(8, "k1"));
        assert_ne!(id(7, "k1"), id(7, "k2"));
    }

    #[test]
    fn ids_of_time_ordered_keys_begin_with_the_timestamp() {
        // The example of RFC 9562, appendix A.6.
        const KEY: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
        const TIMESTAMP: i64 = 0x017f_22e2_79b0;
        let id =
            |sender, key, from| MessageId::keyed(UserId(sender), &IdempotencyKey::parse(key).unwrap(), Timestamp(from));
        assert_eq!(id(7, KEY, TIMESTAMP).to_string(), "017f22e2-79b0-8402-b546-623c25858c80");
        assert_eq!(id(7, KEY, TIMESTAMP + 1).to_string(), "8f27e27b-1b33-5402-b546-623c25858c80");
        // The whole key and the sender make a difference.
        assert_ne!(id(7, "017f22e2-79b0-7cc3-98c4-dc0c0c073990", 0), id(7, KEY, 0));
        assert_ne!(id(8, KEY, 0), id(7, KEY, 0));
        // A UUID without hyphens, of another version or of another variant is not time-ordered.
        for other in [
            "017f22e279b07cc398c4dc0c0c07398f",
            "919108f7-52d1-4320-9bac-f847db4148a8",
            "017f22e2-79b0-7cc3-f8c4-dc0c0c07398f",
        ] {
            assert_eq!(id(7, other, 0), id(7, other, i64::MAX), "{other}");
        }
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        for bad in ["", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(IdempotencyKey::parse(bad).is_err(), "{bad:?}");
        }
    }
}
