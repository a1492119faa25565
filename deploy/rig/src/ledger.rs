//! What a client was promised, compared with what the room holds.

use std::collections::HashSet;

use serde_json::Value;

use crate::{Failure, Result};

/// Messages that were answered with 204, in an order in which each was answered before the next was sent.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: Vec<(String, String)>,
}

impl Ledger {
    /// Notes that `text` was acknowledged under `id`.
    pub fn acknowledge(&mut self, id: impl Into<String>, text: impl Into<String>) {
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

    /// The same for a room that held `earlier` messages before this ledger was begun.
    pub fn check_after(&self, messages: &[Value], earlier: usize) -> Result<()> {
        check_dense(messages, 1)?;
        self.check_order(&messages[earlier..])
    }

    /// Fails unless `messages`, oldest first, hold every acknowledged message once, unchanged, in the ledger's order,
    /// with dense seqs from 1. Messages of unknown outcome may be between them, each once.
    pub fn check(&self, messages: &[Value]) -> Result<()> {
        check_dense(messages, 1)?;
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
pub fn check_dense(messages: &[Value], first: i64) -> Result<()> {
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

    /// The verdict on a history after `a` and then `b` were acknowledged.
    fn verdict(history: &[(i64, &str)]) -> String {
        let mut ledger = Ledger::default();
        ledger.acknowledge("a", "text of a");
        ledger.acknowledge("b", "text of b");
        let history: Vec<Value> = history.iter().map(|(seq, id)| message(*seq, id)).collect();
        ledger.check(&history).err().map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_was_promised_and_what_is_unknown_passes() {
        assert_eq!(verdict(&[(1, "a"), (2, "b")]), "");
        assert_eq!(verdict(&[(1, "unknown"), (2, "a"), (3, "another"), (4, "b")]), "");
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        assert!(verdict(&[(1, "a")]).starts_with("lost: b"));
        assert!(verdict(&[(1, "b"), (2, "a")]).starts_with("out of order: b"));
        assert!(verdict(&[(1, "a"), (2, "b"), (3, "a")]).starts_with("doubled"));
        assert!(verdict(&[(1, "a"), (3, "b")]).starts_with("expected seq 2"));
        assert!(verdict(&[(2, "a"), (3, "b")]).starts_with("expected seq 1"));
        let mut ledger = Ledger::default();
        ledger.acknowledge("a", "another text");
        assert!(ledger.check(&[message(1, "a")]).is_err());
    }
}
