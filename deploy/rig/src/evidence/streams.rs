//! What readers saw: events of live streams, and pages of history.

use std::time::Duration;

use serde_json::Value;

use super::log_entry::LogEntry;
use super::posts::Message;
use crate::sse::SseEvent;

/// An entry that came over a stream.
#[derive(Debug, Clone)]
pub struct Received<E> {
    /// The entry.
    pub entry: E,
    /// The seq in the event's id.
    pub cursor: i64,
    /// When it came.
    pub at: Duration,
}

/// Something that has a position in a room.
pub trait Sequenced {
    /// The position.
    fn seq(&self) -> i64;
}

/// An entry of a room in which nobody changes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainEntry {
    /// A message.
    Message(Message),
    /// Anything else.
    Other(Box<LogEntry>),
}

impl PlainEntry {
    /// Parses the data of the event `name`, which is `message` for a message; `None` if it is no entry.
    #[must_use]
    pub fn parse(name: &str, data: &Value) -> Option<Self> {
        match name {
            "message" => Message::parse(data).map(Self::Message),
            _ => LogEntry::parse(name, data).map(|entry| Self::Other(Box::new(entry))),
        }
    }

    /// The message, if it is one.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::Message(message) => Some(message),
            Self::Other(_) => None,
        }
    }
}

impl Sequenced for PlainEntry {
    fn seq(&self) -> i64 {
        match self {
            Self::Message(message) => message.seq,
            Self::Other(entry) => entry.seq,
        }
    }
}

/// One stream of a subscriber, from its `ready` to its end.
#[derive(Debug, Clone)]
pub struct StreamRecord<E> {
    /// Number of the subscriber.
    pub subscriber: usize,
    /// Number of the room.
    pub room: usize,
    /// Number of the gateway.
    pub gateway: usize,
    /// The last seq the subscriber had, if it sent one as `Last-Event-ID`.
    pub resumed_after: Option<i64>,
    /// The epoch of that seq.
    pub resumed_epoch: Option<u64>,
    /// The position that `ready` named.
    pub ready: i64,
    /// The epoch that `ready` named.
    pub epoch: u64,
    /// The head that a `reset` named, if one came.
    pub reset: Option<i64>,
    /// The entries, in the order in which they came.
    pub received: Vec<Received<E>>,
    /// Events that no gateway may send, as they came.
    pub unexpected_events: Vec<String>,
    /// When it was asked for.
    pub requested: Duration,
    /// When `ready` came.
    pub opened: Duration,
    /// Why the gateway ended it, if it did.
    pub bye: Option<ByeReason>,
}

/// Why a gateway ended a stream, as its `bye` event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByeReason {
    /// The user is no longer in the room.
    Removed,
    /// The session was ended.
    Revoked,
    /// The gateway stops.
    Shutdown,
    /// A new epoch has begun.
    HistoryChanged,
    /// Anything else.
    Other,
}

impl ByeReason {
    /// The reason in a `bye`; `None` if the event is another one.
    #[must_use]
    pub fn of(event: &SseEvent) -> Option<Self> {
        let reason = (event.name == "bye").then(|| event.json().ok().map(|data| data["reason"].clone()));
        reason.map(|reason| match reason.as_ref().and_then(Value::as_str) {
            Some("removed") => Self::Removed,
            Some("revoked") => Self::Revoked,
            Some("shutdown") => Self::Shutdown,
            Some("history_changed") => Self::HistoryChanged,
            _ => Self::Other,
        })
    }
}

/// What a subscriber had when the run was over.
#[derive(Debug, Clone, Copy)]
pub struct FinalPosition {
    /// Number of the subscriber.
    pub subscriber: usize,
    /// Number of the room.
    pub room: usize,
    /// The last seq it saw, or started from.
    pub last: i64,
}

/// A page of history that was read while the run went on.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// Number of the room.
    pub room: usize,
    /// The messages, newest first.
    pub messages: Vec<Message>,
    /// When it was read.
    pub at: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bye_reason_is_parsed_and_other_events_have_none() {
        let event = |name: &str, data: &str| SseEvent {
            name: name.to_owned(),
            id: String::new(),
            data: data.to_owned(),
        };
        let reason = |data| ByeReason::of(&event("bye", data));
        assert_eq!(reason(r#"{"reason":"removed"}"#), Some(ByeReason::Removed));
        assert_eq!(reason(r#"{"reason":"history_changed"}"#), Some(ByeReason::HistoryChanged));
        assert_eq!(reason(r#"{"reason":"a new one"}"#), Some(ByeReason::Other));
        assert_eq!(reason("garbage"), Some(ByeReason::Other));
        assert_eq!(ByeReason::of(&event("message", r#"{"reason":"removed"}"#)), None);
    }
}
