//! Who may see a room: the conditions from which statements are composed at compile time. No other file writes them out.

/// The condition that the room of the alias exists now: it is not deleted.
macro_rules! room_exists {
    ($room:literal) => {
        concat!($room, ".deleted_on IS NULL")
    };
}

/// The condition that anybody may see the room of the alias, and join it: it exists now and is public.
///
/// The partial index `rooms_public` has the same condition.
macro_rules! room_is_public {
    ($room:literal) => {
        concat!($crate::storage::sql::visibility::room_exists!($room), " AND NOT ", $room, ".is_private")
    };
}

/// The condition that the user, a parameter, may see the room of the alias: it exists now, and is public or the user is in
/// it. If the user is NULL, these are the rooms that anybody may see.
macro_rules! room_is_visible {
    ($room:literal, $user:literal) => {
        concat!(
            $crate::storage::sql::visibility::room_exists!($room),
            " AND (NOT ",
            $room,
            ".is_private OR EXISTS (SELECT 1 FROM members o WHERE o.room_id = ",
            $room,
            ".id AND o.user_id = ",
            $user,
            "))"
        )
    };
}

pub(in crate::storage) use {room_exists, room_is_public, room_is_visible};
