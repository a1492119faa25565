//! Statements about revocations. Triggers write the rows in the transaction that revokes.
//!
//! The tables are named `removals` and `removal_log`, as revocations were called first. They keep the names: during an upgrade
//! gateways of the version before run on the migrated database, and read both.

pub(in crate::storage) const COUNT_REVOCATIONS: &str = "SELECT count FROM removals";

pub(in crate::storage) const LIST_REVOCATIONS: &str = "SELECT l.session_id, l.user_id, l.room_id, l.member_id, r.name
     FROM removal_log l LEFT JOIN rooms r ON r.id = l.room_id
     WHERE l.count > $1 AND l.count <= $2 ORDER BY l.count";
