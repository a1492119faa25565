//! Checks the history of a room against the messages that were acknowledged.

use std::collections::HashSet;

use serde_json::Value;

use crate::failure::{Failure, Result};

/// The seq of the first message in a room whose owner is its only member: the entry of the creation comes before it.
pub const FIRST_SEQ: i64 = 2;

/// Messages that were acknowledged with 204, in an order in which each was acknowledged before the next was sent.
#[derive(Debug, Default)]
pub struct AcknowledgedMessages {
    acknowledged: Vec<(String, String)>,
}

impl AcknowledgedMessages {
    /// Adds a message: `text` was acknowledged under `id`.
    pub fn add(&mut self, id: impl Into<String>, text: impl Into<String>) {
        self.acknowledged.push((id.into(), text.into()));
    }

    /// How many messages were acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }

    /// The same as [`Self::check`] for a room that held `earlier` messages before the first acknowledged one.
    pub fn check_after(&self, messages: &[Value], earlier: usize) -> Result<()> {
        check_dense_seqs(messages, FIRST_SEQ)?;
        self.check_order(&messages[earlier..])
    }

    /// Fails unless `messages`, oldest first, hold every acknowledged message once, unchanged, in their order, with
    /// dense seqs from [`FIRST_SEQ`]. Messages of unknown outcome may be between them, each once.
    pub fn check(&self, messages: &[Value]) -> Result<()> {
        check_dense_seqs(messages, FIRST_SEQ)?;
        self.check_order(messages)
    }

    fn check_order(&self, messages: &[Value]) -> Result<()> {
        let mut ids = HashSet::new();
        for message in messages {
            if !ids.insert(message["id"].as_str()) {
                return Err(Failure::new(format!("doubled: {message}")));
            }
        }
        let mut rest = messages.iter();
        for (id, text) in &self.acknowledged {
            match rest.find(|message| message["id"] == id.as_str()) {
                Some(message) if message["message"] == text.as_str() => {}
                Some(message) => {
                    return Err(Failure::new(format!("expected the text {text:?} in {message}")));
                }
                None if ids.contains(&Some(id.as_str())) => {
                    return Err(Failure::new(format!("out of order: {id} {text:?}")));
                }
                None => return Err(Failure::new(format!("lost: {id} {text:?}"))),
            }
        }
        Ok(())
    }
}

/// Fails unless the seqs of `messages` are `first`, `first + 1` and so on.
pub fn check_dense_seqs(messages: &[Value], first: i64) -> Result<()> {
    for (expected, message) in (first..).zip(messages) {
        if message["seq"] != expected {
            return Err(Failure::new(format!("expected seq {expected}, got {message}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(seq: i64, id: &str) -> Value {
        json!({"seq": seq, "id": id, "message": format!("text of {id}")})
    }

    /// The failure of the check after `a` and then `b` were acknowledged; empty if there is none.
    fn verdict(history: &[(i64, &str)]) -> String {
        let mut acknowledged = AcknowledgedMessages::default();
        acknowledged.add("a", "text of a");
        acknowledged.add("b", "text of b");
        let history: Vec<Value> = history.iter().map(|(seq, id)| message(*seq, id)).collect();
        acknowledged.check(&history).err().map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn acknowledged_and_unknown_messages_pass() {
        assert_eq!(verdict(&[(2, "a"), (3, "b")]), "");
        assert_eq!(verdict(&[(2, "unknown"), (3, "a"), (4, "another"), (5, "b")]), "");
    }

    #[test]
    fn lost_reordered_doubled_and_changed_messages_are_found() {
        assert!(verdict(&[(2, "a")]).starts_with("lost: b"));
        assert!(verdict(&[(2, "b"), (3, "a")]).starts_with("out of order: b"));
        assert!(verdict(&[(2, "a"), (3, "b"), (4, "a")]).starts_with("doubled"));
        assert!(verdict(&[(2, "a"), (4, "b")]).starts_with("expected seq 3"));
        assert!(verdict(&[(3, "a"), (4, "b")]).starts_with("expected seq 2"));
        let mut acknowledged = AcknowledgedMessages::default();
        acknowledged.add("a", "another text");
        let failure = acknowledged.check(&[message(2, "a")]).err().map(|failure| failure.to_string());
        assert!(failure.is_some_and(|text| text.starts_with("expected the text \"another text\"")));
    }
}
