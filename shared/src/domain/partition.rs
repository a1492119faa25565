//! Partitions of the accept log: which one a room belongs to, who owns one, and positions in its stream.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RoomId;

/// A partition of the accept log. All messages of a room go through the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition of `room` in an installation of `count` partitions.
    ///
    /// The hash must never change: messages of a room that moved to another partition could be reordered.
    #[must_use]
    pub fn of(room: RoomId, count: u16) -> Self {
        let share = split_mix(room.0.cast_unsigned()) % u64::from(count.max(1));
        Self(u16::try_from(share).expect("a remainder of a u16 fits a u16"))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hashes a number with the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub(super) fn split_mix(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Number of an ownership of a partition. Each claim increases it, and a commit under a lower one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub i64);

/// Redis's id of an entry in an accept log: `<milliseconds>-<counter>`. Clients never see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogEntryId {
    /// Redis's clock when the entry was appended, in milliseconds.
    pub ms: i64,
    /// A counter within the millisecond.
    pub counter: i64,
}

impl LogEntryId {
    /// The position before every entry.
    pub const ZERO: Self = Self { ms: 0, counter: 0 };

    /// The smallest id above this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.counter.checked_add(1) {
            Some(counter) => Self { ms: self.ms, counter },
            // Redis does not generate such ids, so somebody else with access to it has chosen this one.
            None => Self {
                ms: self.ms.saturating_add(1),
                counter: 0,
            },
        }
    }
}

impl fmt::Display for LogEntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.counter)
    }
}

impl FromStr for LogEntryId {
    type Err = std::num::ParseIntError;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        let (ms, counter) = raw.split_once('-').unwrap_or((raw, "0"));
        Ok(Self {
            ms: ms.parse()?,
            counter: counter.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_room_never_changes() {
        let shares: Vec<u16> = (1..=8).map(|id| Partition::of(RoomId(id), 16).0).collect();
        assert_eq!(shares, [1, 14, 13, 10, 10, 0, 7, 6]);
    }

    #[test]
    fn rooms_spread_over_all_partitions() {
        let mut rooms_of = [0; 16];
        for id in 1..=16_000 {
            rooms_of[usize::from(Partition::of(RoomId(id), 16).0)] += 1;
        }
        assert!(rooms_of.iter().all(|rooms| (850..1150).contains(rooms)), "{rooms_of:?}");
    }

    #[test]
    fn log_entry_ids_parse_and_sort_as_in_redis() {
        let id: LogEntryId = "1700000000000-12".parse().unwrap();
        assert_eq!(id.to_string(), "1700000000000-12");
        assert!(id < id.next());
        let last: LogEntryId = "5-9223372036854775807".parse().unwrap();
        assert_eq!(last.next().to_string(), "6-0");
        assert!("9-9".parse::<LogEntryId>().unwrap() < "10-0".parse().unwrap());
        assert!("x-1".parse::<LogEntryId>().is_err());
    }
}
