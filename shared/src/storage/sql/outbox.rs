//! Statements about the outbox.

/// About the room `$1` itself, by user `$2`, at `$3`: the change in JSON, `$4`.
pub(in crate::storage) const ROOM_CHANGED: &str = "INSERT INTO outbox (room_id, sender_id, kind, detail, created_on)
     VALUES ($1, $2, 'room', $4, $3)";

/// About user `$2`, who did it, in room `$1`, at `$3`: the change in JSON, `$4` if the user owns the room and `$5` otherwise.
pub(in crate::storage) const MEMBER_CHANGED: &str =
    "INSERT INTO outbox (room_id, sender_id, member_id, kind, detail, created_on)
     SELECT id, $2, $2, 'member', CASE WHEN owner_id = $2 THEN $4 ELSE $5 END, $3 FROM rooms WHERE id = $1";

/// About user `$3`, by user `$2`, in room `$1`, at `$4`: the change in JSON, `$5`.
pub(in crate::storage) const OTHER_MEMBER_CHANGED: &str = "INSERT INTO outbox (room_id, sender_id, member_id, kind, detail, created_on) VALUES ($1, $2, $3, 'member', $5, $4)";

pub(in crate::storage) const ROOMS_IN_OUTBOX: &str =
    "SELECT room_id, max(id) FROM outbox WHERE room_id > $1 GROUP BY room_id ORDER BY room_id LIMIT +$2";

pub(in crate::storage) const LAST_IN_OUTBOX: &str = "SELECT max(id) FROM outbox WHERE room_id = $1";
