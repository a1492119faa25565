//! Statements about rooms and their members.

use super::visibility::{room_exists, room_is_public, room_is_visible};

/// Names of the rooms that a user may see: a range of the public ones and a range of their own private ones, merged.
///
/// Both ranges are those of an index (`rooms_public`, `members_private`), so that a page costs the same however many rooms
/// other users own.
pub const LIST_ROOMS: &str = concat!(
    "SELECT name FROM (
        SELECT name FROM (SELECT name FROM rooms WHERE ",
    room_is_public!("rooms"),
    " AND name > $1
                          ORDER BY name LIMIT +$3) AS of_all
        UNION ALL
        SELECT name FROM (SELECT private_name AS name FROM members WHERE user_id = $2 AND private_name > $1
                          ORDER BY private_name LIMIT +$3) AS of_user
    ) AS visible ORDER BY name LIMIT +$3"
);

/// Names of a room's members, a range of an index; whether the user may see the room is looked up once.
pub const LIST_MEMBERS: &str = concat!(
    "SELECT m.username FROM members m
     WHERE m.room_id = $1 AND m.username > $3 AND EXISTS (SELECT 1 FROM rooms r WHERE r.id = $1 AND ",
    room_is_visible!("r", "$2"),
    ") ORDER BY m.username LIMIT +$4"
);

pub(in crate::storage) const COUNT_OWNED_ROOMS: &str =
    concat!("SELECT COUNT(*) FROM rooms WHERE owner_id = $1 AND kind = 'room' AND ", room_exists!("rooms"));

/// Writes no row if the name is reserved: the last room of this name (`$6`, in lower case) was deleted after `$5`, and
/// belonged to somebody else.
pub(in crate::storage) const INSERT_ROOM: &str =
    "INSERT INTO rooms (name, owner_id, is_private, created_on, incarnation)
     SELECT $1, $2, $3, $4, COUNT(*) FROM rooms WHERE name = $1 AND deleted_on IS NOT NULL
     HAVING NOT EXISTS (SELECT 1 FROM rooms former
                        WHERE lower(former.name) = $6 AND former.deleted_on > $5 AND former.owner_id <> $2
                          AND former.incarnation = (SELECT MAX(other.incarnation) FROM rooms other
                                                    WHERE other.name = former.name))
     RETURNING id, name, owner_id, is_private, incarnation, kind";

pub(in crate::storage) const INSERT_MEMBER: &str =
    "INSERT INTO members (room_id, user_id, joined_on, id) VALUES ($1, $2, $3, $4)";

pub(in crate::storage) const ROOM_BY_NAME: &str = concat!(
    "SELECT id, name, owner_id, is_private, incarnation, kind FROM rooms WHERE name = $1 AND ",
    room_exists!("rooms")
);

pub(in crate::storage) const DELETE_ROOM: &str =
    concat!("UPDATE rooms SET deleted_on = $1 WHERE id = $2 AND ", room_exists!("rooms"));

pub(in crate::storage) const MEMBERSHIP: &str = concat!(
    "SELECT m.id FROM members m JOIN rooms r ON r.id = m.room_id WHERE m.room_id = $1 AND m.user_id = $2 AND ",
    room_exists!("r")
);

/// A member keeps the membership they have. Without `$5`, a user who may mean an earlier room does not join: see
/// [`JoinMode::ByName`](crate::storage::JoinMode::ByName).
pub(in crate::storage) const JOIN_PUBLIC_ROOM: &str = concat!(
    "INSERT INTO members (room_id, user_id, joined_on, id)
     SELECT id, $1, $2, $3 FROM rooms WHERE id = $4 AND ",
    room_is_public!("rooms"),
    " AND ($5 OR NOT COALESCE((SELECT e.owner_id <> rooms.owner_id OR (e.is_private AND NOT rooms.is_private)
                               FROM rooms e JOIN members m ON m.room_id = e.id AND m.user_id = $1
                               WHERE e.name = rooms.name AND e.incarnation < rooms.incarnation
                               ORDER BY e.incarnation DESC LIMIT 1), FALSE))
     ON CONFLICT (room_id, user_id) DO UPDATE SET joined_on = members.joined_on
     RETURNING id"
);

pub(in crate::storage) const IS_PUBLIC: &str =
    concat!("SELECT EXISTS (SELECT 1 FROM rooms WHERE id = $1 AND ", room_is_public!("rooms"), ")");

pub(in crate::storage) const LEAVE_ROOM: &str = "DELETE FROM members WHERE room_id = $1 AND user_id = $2
     AND NOT EXISTS (SELECT 1 FROM rooms WHERE id = $1 AND kind = 'direct') RETURNING id";
