//! Statements about dead letters.
//!
//! The id of an entry in the accept log ([`LogEntryId`](crate::domain::LogEntryId)) stands in columns named `stream_id` here,
//! and `stream_ms` and `stream_counter` in `cursors`. They keep these names because gateways and workers of earlier versions
//! use them while an installation is upgraded.

pub(in crate::storage) const LIST_DEAD_LETTERS: &str =
    "SELECT id, partition, stream_id, reason, entry, created_on FROM dead_letters WHERE id > $1 ORDER BY id LIMIT +$2";

pub(in crate::storage) const DEAD_LETTER: &str =
    "SELECT id, partition, stream_id, reason, entry, created_on FROM dead_letters WHERE id = $1";

pub(in crate::storage) const DELETE_DEAD_LETTER: &str = "DELETE FROM dead_letters WHERE id = $1";
