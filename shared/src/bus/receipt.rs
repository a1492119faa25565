//! Receipts: what the worker publishes to a gateway that waits for its messages to be stored.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{InvalidPublication, Purpose};
use crate::domain::{MessageId, Seq};

/// Messages that a commit stored, or that were stored before, with their seqs in their rooms.
///
/// Receipts are a hint: a gateway that misses one asks SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipts(pub Vec<(MessageId, Seq)>);

impl Receipts {
    /// The receipts on the channel: a JSON array of pairs, and its MAC.
    #[must_use]
    pub fn encode(&self, keys: &KeySpace) -> Vec<u8> {
        keys.mac().encode(Purpose::Receipts, self)
    }

    /// Decodes what [`Receipts::encode`] wrote.
    pub fn decode(raw: &[u8], keys: &KeySpace) -> Result<Self, InvalidPublication> {
        keys.mac().decode(Purpose::Receipts, raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_readable_on_the_channel() {
        let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, "07".repeat(32).parse().unwrap());
        let receipts = Receipts(vec![(MessageId::fresh(), Seq(7))]);
        assert_eq!(Receipts::decode(&receipts.encode(&keys), &keys).unwrap(), receipts);
    }
}
