//! Opening a database, as far as both back ends agree: the roles of processes, and the installation.

use super::OpenError;
use crate::bus::{InvalidMacKey, KeySpace, MacKey};
use crate::domain::{Epoch, InstallationId, InvalidInstallationId, Partition, RoomId, Timestamp};

/// The process that opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A gateway: few writes, many reads.
    Gateway,
    /// A worker: it writes batches of messages.
    Worker,
}

/// How many workers can write to a database at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// One; the others stand by. An SQLite file has one writer.
    One,
    /// As many as there are partitions.
    Many,
}

/// The properties of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installation {
    /// Its identity, which never changes.
    pub id: InstallationId,
    /// The version of the whole history when this was read. It changes only when history is restored or cut.
    pub epoch: Epoch,
    /// The number of accept log partitions, which never changes.
    pub partitions: u16,
    /// Whether entries in Redis under names without an installation belong to it: it was created before names had one.
    pub carries_over: bool,
    /// The key by which its processes recognise what they wrote into Redis.
    pub mac_key: MacKey,
    /// Until this time, entries without an authentication code are accepted: gateways wrote them before they knew `mac_key`.
    pub unsigned_until: Timestamp,
    /// The message id of an idempotency key begins with the timestamp of the key from this timestamp on: see
    /// [`MessageId::keyed`](crate::domain::MessageId::keyed).
    pub ordered_ids_from: Timestamp,
}

/// The row that [`READ_INSTALLATION`](super::sql::installation::READ_INSTALLATION) selects.
pub(super) type Row = (String, i64, i64, bool, String, i64, i64);

impl Installation {
    /// Converts the row of `installation`; fails unless it has the `wanted` number of partitions.
    pub(super) fn from_row(
        (identity, epoch, partitions, carries_over, mac_key, unsigned_until, ordered_ids_from): Row,
        wanted: u16,
    ) -> Result<Self, OpenError> {
        let undecodable = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
        let stored = u16::try_from(partitions).map_err(|error| undecodable(error.into()))?;
        if stored != wanted {
            return Err(OpenError::Partitions { stored, wanted });
        }
        Ok(Self {
            id: identity.parse().map_err(|error: InvalidInstallationId| undecodable(error.into()))?,
            epoch: Epoch(epoch.cast_unsigned()),
            partitions: stored,
            carries_over,
            mac_key: mac_key.parse().map_err(|error: InvalidMacKey| undecodable(error.into()))?,
            unsigned_until: Timestamp(unsigned_until),
            ordered_ids_from: Timestamp(ordered_ids_from),
        })
    }

    /// The names of its keys in Redis.
    #[must_use]
    pub fn key_space(&self) -> KeySpace {
        KeySpace::new(self.id, self.partitions, self.mac_key).accepting_unsigned(self.unsigned_until, self.carries_over)
    }

    /// The partition that all messages of `room` go through.
    #[must_use]
    pub fn partition_of(&self, room: RoomId) -> Partition {
        Partition::of(room, self.partitions)
    }
}

/// An epoch of the lowest 53 bits of `random`: every JSON reader reads its decimal digits exactly.
pub(super) fn epoch_of(random: u64) -> i64 {
    (random & ((1 << 53) - 1)).cast_signed()
}
