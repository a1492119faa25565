//! Statements about positions of entries.

/// Finds, in rooms that `$rooms` selects as `t (room_id)`, the last seq whose entry has at most position `$2`.
///
/// `low` is a seq at or below it, or -1 while none is known; `high` is one above it. From the head it goes back in steps that double,
/// until one is not above the position; from there on it halves the distance. A seq without an entry counts as the entry before it.
macro_rules! seqs_at {
    ($rooms:literal) => {
        concat!(
            "WITH RECURSIVE bounds (room_id, low, high, step) AS (
                 SELECT t.room_id,
                        CASE WHEN h.seq IS NULL THEN CAST(0 AS bigint) WHEN h.position <= $2 THEN h.seq
                             ELSE CAST(-1 AS bigint) END,
                        CASE WHEN h.seq IS NULL THEN CAST(1 AS bigint) WHEN h.position > $2 THEN h.seq ELSE h.seq + 1 END,
                        CAST(1 AS bigint)
                 FROM ",
            $rooms,
            "    LEFT JOIN room_heads h ON h.room_id = t.room_id
                 UNION ALL
                 SELECT s.room_id,
                        CASE WHEN ",
            $crate::storage::sql::positions::is_reached!(),
            " THEN ",
            $crate::storage::sql::positions::probe!(),
            " ELSE s.low END,
                        CASE WHEN ",
            $crate::storage::sql::positions::is_reached!(),
            " THEN s.high ELSE ",
            $crate::storage::sql::positions::probe!(),
            " END,
                        s.step * 2
                 FROM bounds s WHERE s.low < 0 OR s.high - s.low > 1
             )
             SELECT s.room_id, COALESCE((SELECT max(found.seq) FROM (
                        SELECT max(m.seq) AS seq FROM messages m WHERE m.room_id = s.room_id AND m.seq <= s.low
                        UNION ALL
                        SELECT max(c.seq) AS seq FROM changes c WHERE c.room_id = s.room_id AND c.seq <= s.low) found), 0)
             FROM bounds s WHERE s.low >= 0 AND s.high - s.low <= 1"
        )
    };
}

/// The seq to look at next.
macro_rules! probe {
    () => {
        "CASE WHEN s.low >= 0 THEN (s.low + s.high) / 2 WHEN s.high > s.step THEN s.high - s.step ELSE 0 END"
    };
}

/// Whether no entry up to that seq is above the position: positions grow with seqs, so the last message and the last change decide.
macro_rules! is_reached {
    () => {
        concat!(
            "(COALESCE((SELECT m.position FROM messages m WHERE m.room_id = s.room_id AND m.seq <= ",
            $crate::storage::sql::positions::probe!(),
            " ORDER BY m.seq DESC LIMIT 1), 0) <= $2
              AND COALESCE((SELECT c.position FROM changes c WHERE c.room_id = s.room_id AND c.seq <= ",
            $crate::storage::sql::positions::probe!(),
            " ORDER BY c.seq DESC LIMIT 1), 0) <= $2)"
        )
    };
}

pub(in crate::storage) use {is_reached, probe, seqs_at};
