//! Receipts: what the worker publishes to a gateway that waits for the outcome of what it accepted.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{InvalidPublication, Purpose};
use crate::domain::{MessageId, Outcome};

/// Messages and changes that a commit stored, or that were stored before, with their seqs in their rooms, and those that it refused.
///
/// Receipts are a hint: a gateway that misses one asks SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipts(pub Vec<(MessageId, Outcome)>);

impl Receipts {
    /// The receipts on the channel: a JSON array of pairs, and its MAC. A gateway that never sends changes gets seqs alone, as
    /// gateways of earlier versions expect.
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
    use crate::domain::{Refusal, Seq};

    #[test]
    fn receipts_are_readable_on_the_channel() {
        let keys = KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 1, "07".repeat(32).parse().unwrap());
        let stored = (MessageId::fresh(), Outcome::Stored(Seq(7)));
        let refused = (MessageId::fresh(), Outcome::Refused(Refusal::TooManyReactions));
        let receipts = Receipts(vec![stored, refused]);
        assert_eq!(Receipts::decode(&receipts.encode(&keys), &keys).unwrap(), receipts);
        // As gateways of earlier versions expect them.
        assert_eq!(serde_json::to_string(&Receipts(vec![stored])).unwrap(), format!("[[\"{}\",7]]", stored.0));
    }
}
