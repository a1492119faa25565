//! What Redis remembers of SQL: how far a partition was stored when its accept log was last trimmed.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{CODE_BYTES, InvalidPublication, NotAuthentic, Purpose};
use crate::domain::{Partition, StreamId};

/// How far a partition is stored, in which of the epochs by their number; in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredWatermark {
    /// The number of the epoch.
    pub epoch_number: i64,
    /// The last entry that is stored.
    pub upto: StreamId,
}

/// Its form in Redis. It names the partition, so that the position of one is none of another.
#[derive(Serialize, Deserialize)]
struct Remembered {
    partition: Partition,
    epoch_number: i64,
    ms: i64,
    counter: i64,
}

impl StoredWatermark {
    /// Its form in Redis: one JSON object, a space, and its MAC in hexadecimal. A stranger who could write it would have the
    /// worker take the database for one that was restored.
    #[must_use]
    pub fn encode(self, partition: Partition, keys: &KeySpace) -> String {
        let Self { epoch_number, upto } = self;
        let remembered = Remembered {
            partition,
            epoch_number,
            ms: upto.ms,
            counter: upto.counter,
        };
        let authentic = keys.mac().encode(Purpose::StoredWatermark, &remembered);
        let (json, code) = authentic.split_at(authentic.len() - CODE_BYTES);
        format!("{} {}", String::from_utf8_lossy(json), hex::encode(code))
    }

    /// Reads what [`StoredWatermark::encode`] wrote of `partition`; `None` if it is that of another one.
    pub fn decode(raw: &str, partition: Partition, keys: &KeySpace) -> Result<Option<Self>, InvalidPublication> {
        let (json, code) = raw.rsplit_once(' ').ok_or(NotAuthentic)?;
        let code = hex::decode(code).map_err(|_| NotAuthentic)?;
        let authentic = [json.as_bytes(), &code].concat();
        let remembered: Remembered = keys.mac().decode(Purpose::StoredWatermark, &authentic)?;
        let upto = StreamId {
            ms: remembered.ms,
            counter: remembered.counter,
        };
        let position = Self {
            epoch_number: remembered.epoch_number,
            upto,
        };
        Ok((remembered.partition == partition).then_some(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::MacKey;

    #[test]
    fn a_position_is_read_back_for_its_partition_and_of_this_installation_alone() {
        let keys = |key| KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 2, key);
        let ours = keys(MacKey::fresh());
        let position = StoredWatermark {
            epoch_number: 3,
            upto: StreamId { ms: 7, counter: 1 },
        };
        let raw = position.encode(Partition(1), &ours);
        assert_eq!(StoredWatermark::decode(&raw, Partition(1), &ours).unwrap(), Some(position));
        assert_eq!(StoredWatermark::decode(&raw, Partition(0), &ours).unwrap(), None);
        assert!(StoredWatermark::decode(&raw, Partition(1), &keys(MacKey::fresh())).is_err());
        assert!(StoredWatermark::decode("9223372036854775807 7-1", Partition(1), &ours).is_err());
    }
}
