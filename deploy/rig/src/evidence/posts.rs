//! What senders posted, and messages as history, streams and the database show them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

/// Identifies a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(u64);

impl Digest {
    /// The digest of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// How a post ended for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostOutcome {
    /// 204 with this id.
    Acknowledged(Uuid),
    /// Every try got a response that means: nothing was done.
    Refused,
    /// 422: the message that it replies to is not there.
    NoSuchReply,
    /// There was no response, or one that leaves the outcome open, and the client has given up.
    Unknown,
}

impl PostOutcome {
    /// The id with which the message was acknowledged.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        match self {
            Self::Acknowledged(id) => Some(*id),
            Self::Refused | Self::NoSuchReply | Self::Unknown => None,
        }
    }

    /// Whether the server took responsibility for the message.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Acknowledged(_))
    }
}

/// One message that a client wanted to post, however often it tried.
#[derive(Debug, Clone)]
pub struct Post {
    /// Number of the room.
    pub room: usize,
    /// Number of the sender; each posts one message after the other.
    pub sender: usize,
    /// Number of the message among the sender's.
    pub number: u32,
    /// The text.
    pub text: Digest,
    /// The message that it replies to.
    pub reply_to: Option<Uuid>,
    /// Names of the users that it mentions.
    pub mentions: Vec<String>,
    /// When the first try was sent.
    pub sent: Duration,
    /// When the outcome was known, or the client gave up.
    pub settled: Duration,
    /// How it ended.
    pub outcome: PostOutcome,
    /// Tries after which the client could not know what had happened.
    pub unknown_tries: u32,
}

/// A message as history, a stream or the database shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Position in the room.
    pub seq: i64,
    /// Identity.
    pub id: Uuid,
    /// The text.
    pub text: Digest,
}

impl Message {
    /// Parses the message object of the contract; `None` if `message` is not one.
    #[must_use]
    pub fn parse(message: &Value) -> Option<Self> {
        Some(Self {
            seq: message["seq"].as_i64()?,
            id: message["id"].as_str()?.parse().ok()?,
            text: Digest::of(message["message"].as_str()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn message_is_parsed_and_incomplete_objects_are_none() {
        let complete = json!({"seq": 3, "id": "017f22e2-79b0-8cc3-98c4-dc0c0c07398f", "message": "hello"});
        let message = Message::parse(&complete).unwrap();
        assert_eq!((message.seq, message.text), (3, Digest::of("hello")));
        for field in ["seq", "id", "message"] {
            let mut broken = complete.clone();
            broken[field] = json!(["garbage"]);
            assert_eq!(Message::parse(&broken), None, "{field}");
        }
        assert_eq!(Message::parse(&json!(null)), None);
    }
}
