//! Statements about stored messages, and the parts from which both back ends compose their pages.

/// Selects the fields of [`StoredMessage`](crate::domain::StoredMessage) in their order. Conditions on the message `m` follow.
macro_rules! select_messages {
    () => {
        "SELECT m.seq, m.id, u.username, u.public_id, m.kind, m.text, m.created_on
         FROM messages m JOIN users u ON u.id = m.sender_id"
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

pub(in crate::storage) use {from_visible_room, select_messages};

pub(in crate::storage) const HEAD: &str = "SELECT seq FROM room_heads WHERE room_id = $1";

pub(in crate::storage) const SEQ_IN_ROOM: &str = "SELECT seq FROM messages WHERE id = $1 AND room_id = $2";
