//! The stored watermark: how far SQL had stored a partition when its accept log was last trimmed, as Redis remembers it.

use serde::{Deserialize, Serialize};

use super::KeySpace;
use super::mac::{CODE_BYTES, InvalidPublication, NotAuthentic, Purpose};
use crate::domain::{LogEntryId, Partition};

/// How far a partition is stored, and in which epoch. Watermarks order by epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredWatermark {
    /// The number of the epoch.
    pub epoch_number: i64,
    /// The last entry that is stored.
    pub upto: LogEntryId,
}

/// Its form in Redis. It names the partition, so that a watermark cannot pass for that of another partition.
#[derive(Serialize, Deserialize)]
struct Payload {
    partition: Partition,
    epoch_number: i64,
    ms: i64,
    counter: i64,
}

impl StoredWatermark {
    /// Its form in Redis: one JSON object, a space, and its MAC in hexadecimal. Without the MAC another party could make the
    /// worker believe that the database was restored from a backup.
    #[must_use]
    pub fn encode(self, partition: Partition, keys: &KeySpace) -> String {
        let Self { epoch_number, upto } = self;
        let payload = Payload {
            partition,
            epoch_number,
            ms: upto.ms,
            counter: upto.counter,
        };
        let authentic = keys.mac().encode(Purpose::StoredWatermark, &payload);
        let (json, code) = authentic.split_at(authentic.len() - CODE_BYTES);
        format!("{} {}", String::from_utf8_lossy(json), hex::encode(code))
    }

    /// Parses what [`StoredWatermark::encode`] wrote of `partition`; `None` if it belongs to another partition.
    pub fn decode(raw: &str, partition: Partition, keys: &KeySpace) -> Result<Option<Self>, InvalidPublication> {
        let (json, code) = raw.rsplit_once(' ').ok_or(NotAuthentic)?;
        let code = hex::decode(code).map_err(|_| NotAuthentic)?;
        let authentic = [json.as_bytes(), &code].concat();
        let payload: Payload = keys.mac().decode(Purpose::StoredWatermark, &authentic)?;
        let upto = LogEntryId {
            ms: payload.ms,
            counter: payload.counter,
        };
        let watermark = Self {
            epoch_number: payload.epoch_number,
            upto,
        };
        Ok((payload.partition == partition).then_some(watermark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::MacKey;

    #[test]
    fn watermark_opens_for_its_partition_and_installation_alone() {
        let keys = |key| KeySpace::new("00a1b2c3d4e5".parse().unwrap(), 2, key);
        let ours = keys(MacKey::fresh());
        let watermark = StoredWatermark {
            epoch_number: 3,
            upto: LogEntryId { ms: 7, counter: 1 },
        };
        let raw = watermark.encode(Partition(1), &ours);
        assert_eq!(StoredWatermark::decode(&raw, Partition(1), &ours).unwrap(), Some(watermark));
        assert_eq!(StoredWatermark::decode(&raw, Partition(0), &ours).unwrap(), None);
        assert!(StoredWatermark::decode(&raw, Partition(1), &keys(MacKey::fresh())).is_err());
        assert!(StoredWatermark::decode("9223372036854775807 7-1", Partition(1), &ours).is_err());
    }
}
