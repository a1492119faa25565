//! Statements about the installation: what identifies it, its epoch and its partitions.

/// The values of [`Row`](crate::storage::open::Row).
pub(in crate::storage) const READ_INSTALLATION: &str =
    "SELECT identity, epoch, partitions, carries_over, mac_key, unsigned_until, ordered_ids_from
     FROM installation WHERE id = 1";

/// If several processes start together, the row of the first one stays.
pub(in crate::storage) const INSERT_INSTALLATION: &str =
    "INSERT INTO installation (id, identity, epoch, partitions, mac_key) VALUES (1, $1, $2, $3, $4)
     ON CONFLICT (id) DO NOTHING";

/// See [`Backend::ping`](crate::storage::Backend::ping).
pub(in crate::storage) const PING: &str = "SELECT 1 FROM installation";

/// See [`Backend::epoch`](crate::storage::Backend::epoch).
pub(in crate::storage) const READ_EPOCH: &str = "SELECT epoch, epoch_number FROM installation WHERE id = 1";

/// See [`Backend::begin_epoch`](crate::storage::Backend::begin_epoch).
pub(in crate::storage) const BEGIN_EPOCH: &str =
    "UPDATE installation SET epoch = $1, epoch_number = $2 WHERE id = 1 AND epoch = $3";

/// Whether the database is the target of a copy that did not complete: the row of `installation` is copied last.
pub(in crate::storage) const UNFINISHED_COPY: &str =
    "SELECT EXISTS (SELECT 1 FROM users) AND NOT EXISTS (SELECT 1 FROM installation)";

pub(in crate::storage) const COUNT_CURSORS: &str = "SELECT COUNT(*) FROM cursors";

pub(in crate::storage) const LIST_FENCES: &str = "SELECT partition, fence FROM cursors ORDER BY partition";

/// The migrations that are applied, as `sqlx` records them.
pub(in crate::storage) const APPLIED_MIGRATIONS: &str =
    "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";
