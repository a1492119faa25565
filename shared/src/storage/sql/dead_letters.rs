//! Statements about dead letters.

pub(in crate::storage) const LIST_DEAD_LETTERS: &str =
    "SELECT id, partition, stream_id, reason, entry, created_on FROM dead_letters WHERE id > $1 ORDER BY id LIMIT +$2";

pub(in crate::storage) const DEAD_LETTER: &str =
    "SELECT id, partition, stream_id, reason, entry, created_on FROM dead_letters WHERE id = $1";

pub(in crate::storage) const DELETE_DEAD_LETTER: &str = "DELETE FROM dead_letters WHERE id = $1";
