//! Statements about the rooms of users.

use super::visibility::room_exists;

/// All rooms of user `$1`: a [`UserRoomsRow`](crate::storage::user_rooms::UserRoomsRow). The back end names its functions that make JSON
/// arrays, of rows and of values.
macro_rules! user_rooms {
    ($of_rows:literal, $of_values:literal) => {
        concat!(
            "SELECT u.rooms_version, COALESCE((SELECT count FROM removals), 0), COALESCE((
                SELECT CAST(",
            $of_rows,
            "(",
            $of_values,
            "(r.id, r.name, r.owner_id, CASE WHEN r.is_private THEN 1 ELSE 0 END, r.incarnation, r.kind, m.id, m.version,
              COALESCE(h.seq, 0), COALESCE(h.changed, 0), COALESCE(h.position, 0), m.hidden_upto,
              CASE WHEN ",
            $crate::storage::sql::user_rooms::is_shown!("m"),
            " THEN 0 ELSE 1 END, m.joined, m.read_seq)) AS text)
                FROM members m JOIN rooms r ON r.id = m.room_id LEFT JOIN room_heads h ON h.room_id = m.room_id
                WHERE m.user_id = $1 AND ",
            $crate::storage::sql::visibility::room_exists!("r"),
            "), '[]')
             FROM users u WHERE u.id = $1"
        )
    };
}

/// The [`StateRow`](crate::storage::user_rooms::StateRow)s of those rooms of user `$1` that the condition on the membership `m` selects.
///
/// If the room has at most 100 messages behind the read mark, those that count as unread are counted.
macro_rules! room_states {
    ($($condition:tt)+) => {
        concat!(
            "SELECT r.id, r.name, r.kind,
                    CASE r.kind WHEN 'direct' THEN (SELECT o.username FROM members o
                                                    WHERE o.room_id = r.id AND o.user_id <> $1 LIMIT 1) END AS other,
                    r.owner_id = $1 AS is_owner, COALESCE(h.seq, 0) AS head,
                    CASE WHEN COALESCE(h.seq - h.others, 0) - m.read_messages > 100
                         THEN h.seq - h.others - m.read_messages
                         ELSE (SELECT COUNT(*) FROM messages x
                               WHERE x.room_id = m.room_id AND x.seq > m.read_seq AND x.sender_id <> $1 AND x.text <> '')
                    END AS unread,
                    (SELECT COUNT(*) FROM (SELECT n.seq FROM mentions n
                                           WHERE n.user_id = $1 AND n.room_id = m.room_id AND n.seq > m.read_seq
                                           ORDER BY n.seq DESC LIMIT 100) n
                     JOIN messages x ON x.room_id = m.room_id AND x.seq = n.seq WHERE x.sender_id <> $1) AS mentions,
                    m.read_seq, m.notify, m.notify_until, m.version, m.joined, COALESCE(h.position, 0) AS position
             FROM members m JOIN rooms r ON r.id = m.room_id LEFT JOIN room_heads h ON h.room_id = m.room_id
             WHERE m.user_id = $1 AND ",
            $crate::storage::sql::visibility::room_exists!("r"),
            " AND ",
            $($condition)+
        )
    };
}

/// The condition that the membership of an alias does not hide its room: its user has not left it, or there is a message since.
macro_rules! is_shown {
    ($member:literal) => {
        concat!(
            "(",
            $member,
            ".hidden_upto IS NULL OR EXISTS (SELECT 1 FROM messages y WHERE y.room_id = ",
            $member,
            ".room_id AND y.seq > ",
            $member,
            ".hidden_upto))"
        )
    };
}

/// Those who share a direct room with users, the ones of the array `$1`, which the back end names as a set: at most `$2` of each, those with the
/// latest entry. Neither hides the room, and the others have opened it or read in it: a stranger who opens a room learns nothing by that.
macro_rules! direct_partners {
    ($users:literal) => {
        concat!(
            "SELECT user_id, other_id, other_name FROM (
                 SELECT p.user_id, o.user_id AS other_id, o.username AS other_name,
                        ROW_NUMBER() OVER (PARTITION BY p.user_id ORDER BY COALESCE(g.position, 0) DESC, p.room_id DESC) AS number
                 FROM members p JOIN rooms q ON q.id = p.room_id
                 JOIN members o ON o.room_id = p.room_id AND o.user_id <> p.user_id
                 LEFT JOIN room_heads g ON g.room_id = p.room_id
                 WHERE p.user_id IN (",
            $users,
            ") AND q.kind = 'direct' AND ",
            $crate::storage::sql::user_rooms::is_shown!("p"),
            " AND ",
            $crate::storage::sql::user_rooms::is_shown!("o"),
            " AND (q.owner_id = o.user_id OR o.read_seq > 0) AND ",
            $crate::storage::sql::visibility::room_exists!("q"),
            ") t WHERE number <= $2 ORDER BY user_id, number"
        )
    };
}

/// Where in the log user `$1` became a member of each of the rooms that the condition on the membership `m` selects: the seq of the entry that
/// says so, or of the first one if it says that they created the room. Nothing of a room whose entry is not stored yet.
macro_rules! join_seqs {
    ($condition:literal) => {
        concat!(
            "SELECT m.room_id, max(c.seq)
             FROM members m JOIN changes c ON c.member_id = m.user_id AND c.room_id = m.room_id AND c.created_on = m.joined_on
             WHERE m.user_id = $1 AND ",
            $condition,
            " GROUP BY m.room_id
             UNION ALL
             SELECT m.room_id, c.seq
             FROM members m JOIN changes c ON c.room_id = m.room_id AND c.seq = 1 AND c.kind = 'room'
                                          AND c.sender_id = m.user_id AND c.created_on = m.joined_on
             WHERE m.user_id = $1 AND ",
            $condition
        )
    };
}

pub(in crate::storage) use {direct_partners, is_shown, join_seqs, room_states, user_rooms};

/// A page of the rooms of user `$1`, the latest entry first, below position `$2` and room `$3`: at most `$4`. The page is chosen before
/// what is unread is counted.
pub(in crate::storage) const ROOMS_BY_ACTIVITY: &str = room_states!(
    "m.room_id IN (SELECT p.room_id FROM members p JOIN rooms q ON q.id = p.room_id
                   LEFT JOIN room_heads g ON g.room_id = p.room_id
                   WHERE p.user_id = $1 AND (COALESCE(g.position, 0), p.room_id) < ($2, $3) AND ",
    is_shown!("p"),
    " AND ",
    room_exists!("q"),
    "              ORDER BY COALESCE(g.position, 0) DESC, p.room_id DESC LIMIT +$4)"
);

/// A page of the direct rooms of user `$1` by the username of the other member, above `$2`: at most `$3`.
pub(in crate::storage) const DIRECT_ROOMS: &str = room_states!(
    "m.room_id IN (SELECT p.room_id FROM members p JOIN rooms q ON q.id = p.room_id
                   JOIN members o ON o.room_id = p.room_id AND o.user_id <> $1
                   WHERE p.user_id = $1 AND q.kind = 'direct' AND o.username > $2 AND ",
    is_shown!("p"),
    " AND ",
    room_exists!("q"),
    "              ORDER BY o.username LIMIT +$3)"
);

/// The rooms that user `$1` left after version `$2`, and those deleted after `$3` revocations that they were in.
pub(in crate::storage) const GONE_ROOMS: &str =
    "SELECT room_id, name FROM departures WHERE user_id = $1 AND version > $2
     UNION
     SELECT r.id, r.name FROM members m JOIN rooms r ON r.id = m.room_id WHERE m.user_id = $1 AND r.removal > $3
     ORDER BY 1";

/// Moves the read mark of user `$2` in room `$1` to `$3` at most, and counts the messages up to it: the number of the last one.
pub(in crate::storage) const MOVE_READ_MARK: &str = concat!(
    "UPDATE members SET
         read_seq = t.seq,
         read_messages = COALESCE((SELECT x.seq - x.others FROM messages x
                                   WHERE x.room_id = $1 AND x.seq <= t.seq ORDER BY x.seq DESC LIMIT 1), 0)
     FROM (SELECT CASE WHEN h.seq < $3 THEN h.seq ELSE $3 END AS seq
           FROM room_heads h JOIN rooms r ON r.id = h.room_id WHERE h.room_id = $1 AND ",
    room_exists!("r"),
    ") t
     WHERE members.room_id = $1 AND members.user_id = $2 AND members.read_seq < t.seq"
);

pub(in crate::storage) const READ_MARK: &str = concat!(
    "SELECT m.read_seq, u.rooms_version FROM members m JOIN users u ON u.id = m.user_id JOIN rooms r ON r.id = m.room_id
     WHERE m.room_id = $1 AND m.user_id = $2 AND ",
    room_exists!("r")
);

pub(in crate::storage) const SET_NOTIFY: &str = concat!(
    "UPDATE members SET notify = $3, notify_until = $4 WHERE room_id = $1 AND user_id = $2
     AND EXISTS (SELECT 1 FROM rooms r WHERE r.id = $1 AND ",
    room_exists!("r"),
    ")"
);

/// A new direct room `$1` of its creator `$2`, at `$3`, unless the two users of the key `$4` have one.
pub(in crate::storage) const INSERT_DIRECT_ROOM: &str =
    "INSERT INTO rooms (name, owner_id, is_private, created_on, kind, direct_key) VALUES ($1, $2, TRUE, $3, 'direct', $4)
     ON CONFLICT (direct_key) WHERE direct_key IS NOT NULL DO NOTHING
     RETURNING id, name, owner_id, is_private, incarnation, kind";

pub(in crate::storage) const DIRECT_ROOM_BY_KEY: &str =
    "SELECT id, name, owner_id, is_private, incarnation, kind FROM rooms WHERE direct_key = $1";

pub(in crate::storage) const HIDE_DIRECT_ROOM: &str = concat!(
    "UPDATE members SET hidden_upto = COALESCE((SELECT h.seq FROM room_heads h WHERE h.room_id = $1), 0)
     WHERE room_id = $1 AND user_id = $2 AND EXISTS (SELECT 1 FROM rooms r WHERE r.id = $1 AND r.kind = 'direct' AND ",
    room_exists!("r"),
    ")"
);

pub(in crate::storage) const SHOW_DIRECT_ROOM: &str =
    "UPDATE members SET hidden_upto = NULL WHERE room_id = $1 AND user_id = $2 AND hidden_upto IS NOT NULL";
