//! Statements about heads that an earlier release has written without a position.

/// The columns of [`HeadWithoutPosition`](crate::storage::head_positions::HeadWithoutPosition).
pub(in crate::storage) const LIST_HEADS_WITHOUT_POSITION: &str = "SELECT h.room_id, h.seq, COALESCE(
            (SELECT m.position FROM messages m WHERE m.room_id = h.room_id AND m.seq = h.seq),
            (SELECT c.position FROM changes c WHERE c.room_id = h.room_id AND c.seq = h.seq))
     FROM room_heads h WHERE h.partition IS NULL AND h.room_id > $1 ORDER BY h.room_id LIMIT +$2";
