//! Statements about stored messages, and the parts from which both back ends compose their pages.

/// Selects the fields of [`StoredMessage`](crate::domain::StoredMessage) in their order. Conditions on the message `m` follow.
macro_rules! select_messages {
    () => {
        "SELECT m.seq, m.id, u.username, u.public_id, m.kind, m.text, m.created_on, m.extra
         FROM messages m JOIN users u ON u.id = m.sender_id"
    };
}

/// Selects the changes of room `$1` above seq `$2`, at most `$3`, the oldest first, with today's text of the messages that were
/// edited and the name of the users that they are about.
macro_rules! select_changes {
    () => {
        "SELECT c.seq, u.username, u.public_id, c.created_on, c.kind, c.target, c.target_seq, c.detail,
                CASE c.kind WHEN 'edit' THEN (SELECT m.text FROM messages m
                                              WHERE m.room_id = c.room_id AND m.seq = c.target_seq) END AS text,
                o.username AS member
         FROM changes c JOIN users u ON u.id = c.sender_id LEFT JOIN users o ON o.id = c.member_id
         WHERE c.room_id = $1 AND c.seq > $2 ORDER BY c.seq"
    };
}

/// The condition on the message `m` that it is one of the first `$4` replies above seq `$3` to message `$2` of room `$1`.
macro_rules! is_reply {
    () => {
        " (m.room_id, m.seq) IN (SELECT p.room_id, p.seq_of_reply
                                 FROM messages t JOIN replies p ON p.room_id = t.room_id AND p.seq = t.seq
                                 WHERE t.id = $2 AND t.room_id = $1 AND p.seq_of_reply > $3
                                 ORDER BY p.seq_of_reply LIMIT +$4)"
    };
}

/// Room `$1`, if user `$5` may see it and it has message `$2`.
macro_rules! from_visible_message {
    () => {
        concat!(
            " FROM rooms r WHERE r.id = $1 AND EXISTS (SELECT 1 FROM messages t WHERE t.id = $2 AND t.room_id = $1) AND ",
            $crate::storage::sql::visibility::room_is_visible!("r", "$5")
        )
    };
}

/// The room of a page: room `$1` with its head `h`, if user `$2` may see it.
macro_rules! from_visible_room {
    () => {
        concat!(
            " FROM rooms r LEFT JOIN room_heads h ON h.room_id = r.id WHERE r.id = $1 AND ",
            $crate::storage::sql::visibility::room_is_visible!("r", "$2")
        )
    };
}

pub(in crate::storage) use {from_visible_message, from_visible_room, is_reply, select_changes, select_messages};

pub(in crate::storage) const HEAD: &str = "SELECT seq, changed FROM room_heads WHERE room_id = $1";

pub(in crate::storage) const SEQ_IN_ROOM: &str = "SELECT seq FROM messages WHERE id = $1 AND room_id = $2";

/// The lowest seq of the newest messages of room `$1` between two seqs, `$2` and `$3`, both excluded: at most `$4` of them.
pub(in crate::storage) const FIRST_OF_NEWEST: &str = "SELECT min(seq) FROM (SELECT seq FROM messages
     WHERE room_id = $1 AND seq > $2 AND seq < $3 ORDER BY seq DESC LIMIT +$4) newest";
