//! How a worker tells a gateway that messages it waits for are stored.

use serde::{Deserialize, Serialize};

use crate::domain::{MessageId, Seq};

/// Messages that are stored now, or were before, with their places in their rooms.
///
/// It is a hint: a gateway that misses one asks SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipts(pub Vec<(MessageId, Seq)>);

impl Receipts {
    /// Their form on the channel: a JSON array of pairs.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("ids and numbers have a JSON form")
    }

    /// Reads what [`Receipts::encode`] wrote.
    pub fn decode(raw: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_readable_on_the_channel() {
        let receipts = Receipts(vec![(MessageId::fresh(), Seq(7))]);
        assert_eq!(Receipts::decode(&receipts.encode()).unwrap(), receipts);
    }
}
