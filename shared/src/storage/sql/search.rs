//! Statements of searches and their index that both back ends run.

use super::visibility::{room_exists, room_is_visible};

/// A room as a search begins in it: see [`RoomRow`](crate::storage::search::RoomRow).
macro_rules! select_rooms {
    () => {
        "SELECT r.id, COALESCE(i.indexed, 0), COALESCE(h.seq, 0),
                COALESCE((SELECT m.position FROM messages m WHERE m.room_id = r.id ORDER BY m.seq DESC LIMIT 1), 0)
         FROM rooms r LEFT JOIN room_heads h ON h.room_id = r.id LEFT JOIN search_rooms i ON i.room_id = r.id"
    };
}

/// Remove the index of room `$1`. Changes of its messages were counted before, so no worker writes what it has read of it.
pub(in crate::storage) const DROP_INDEX: [&str; 2] = [
    "DELETE FROM search_pages WHERE room_id = $1",
    "UPDATE search_rooms SET indexed = 0 WHERE room_id = $1",
];

/// Room `$2`, if user `$1` may see it.
pub(in crate::storage) const ONE_ROOM: &str =
    concat!(select_rooms!(), " WHERE r.id = $2 AND ", room_is_visible!("r", "$1"));

/// The rooms that user `$1` is in.
pub(in crate::storage) const ROOMS_OF_USER: &str = concat!(
    select_rooms!(),
    " WHERE r.id IN (SELECT o.room_id FROM members o WHERE o.user_id = $1) AND ",
    room_exists!("r")
);

/// Finds by bisection, in the rooms that the condition selects, the lowest seq from which on no message has a position below
/// `$1`. Positions and seqs of a room grow together.
macro_rules! ends {
    ($rooms:literal) => {
        concat!(
            "WITH RECURSIVE bisection (room_id, low, high) AS (
                 SELECT h.room_id, CAST(0 AS bigint), h.seq + 1 FROM room_heads h WHERE h.room_id IN ",
            $rooms,
            "    UNION ALL
                 SELECT b.room_id,
                        CASE WHEN ",
            $crate::storage::sql::search::is_below!(),
            " THEN (b.low + b.high) / 2 ELSE b.low END,
                        CASE WHEN ",
            $crate::storage::sql::search::is_below!(),
            " THEN b.high ELSE (b.low + b.high) / 2 END
                 FROM bisection b WHERE b.high - b.low > 1
             )
             SELECT room_id, high FROM bisection WHERE high - low = 1"
        )
    };
}

/// Whether the first message from the middle on has a position below `$1`.
macro_rules! is_below {
    () => {
        "COALESCE((SELECT m.position FROM messages m WHERE m.room_id = b.room_id AND m.seq >= (b.low + b.high) / 2
                   ORDER BY m.seq LIMIT 1) < $1, FALSE)"
    };
}

/// The condition that the room of a message `m` is visible to user `$1`.
macro_rules! found_is_visible {
    () => {
        $crate::storage::sql::visibility::room_is_visible!("r", "$1")
    };
}

pub(in crate::storage) use {ends, found_is_visible, is_below};

pub(in crate::storage) const INDEXED: &str =
    "SELECT COALESCE((SELECT indexed FROM search_rooms WHERE room_id = $1), 0)";

pub(in crate::storage) const POSITION_FROM: &str =
    "SELECT position FROM messages WHERE room_id = $1 AND seq >= $2 ORDER BY seq LIMIT 1";

/// At most `$3` rooms above `$1` with as many new messages as the smallest segment has, `$2`.
pub(in crate::storage) const ROOMS_TO_INDEX: &str = concat!(
    "SELECT h.room_id FROM room_heads h JOIN rooms r ON r.id = h.room_id LEFT JOIN search_rooms i ON i.room_id = h.room_id
     WHERE h.room_id > $1 AND h.seq - COALESCE(i.indexed, 0) >= $2 AND ",
    room_exists!("r"),
    " ORDER BY h.room_id LIMIT +$3"
);

pub(in crate::storage) const ADD_ROOM: &str =
    "INSERT INTO search_rooms (room_id) VALUES ($1) ON CONFLICT (room_id) DO NOTHING";

pub(in crate::storage) const INDEX_STATE: &str = "SELECT i.indexed, i.altered, COALESCE(h.seq, 0)
     FROM search_rooms i LEFT JOIN room_heads h ON h.room_id = i.room_id WHERE i.room_id = $1";

pub(in crate::storage) const MOVE_INDEXED: &str =
    "UPDATE search_rooms SET indexed = $2 WHERE room_id = $1 AND indexed = $3 AND altered = $4";

pub(in crate::storage) const REMOVE_SEGMENT: &str =
    "DELETE FROM search_pages WHERE room_id = $1 AND level = $2 AND number = $3";
