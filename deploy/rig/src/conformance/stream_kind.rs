//! The two kinds of streams: that of one room, and that of all rooms of a user.

/// What a stream brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// The room of this name.
    Room(&'static str),
    /// All rooms of the reader.
    AllRooms,
}

impl StreamKind {
    /// Path of its URL.
    pub(super) fn path(self) -> String {
        match self {
            Self::Room(name) => format!("/chat/{name}/message"),
            Self::AllRooms => "/user/events".to_owned(),
        }
    }

    /// What follows a library's name in the name of its check.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Room(_) => "",
            Self::AllRooms => ", all rooms",
        }
    }

    /// Whether such a stream may bring this event and nothing is compared with it: the history has only messages.
    pub(super) fn ignores(self, event: &str) -> bool {
        match event {
            "ping" | "member" | "room" => true,
            "rooms" | "read" | "typing" | "presence" => self == Self::AllRooms,
            _ => false,
        }
    }

    /// Whether `id` may be the id of the message with `seq`.
    pub(super) fn accepts_id(self, id: &str, seq: i64) -> bool {
        match self {
            Self::Room(_) => id.ends_with(&format!("-{seq}")),
            // Opaque: the streams that resume from it prove that it is right.
            Self::AllRooms => {
                let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                !id.is_empty() && id.bytes().all(is_allowed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_rooms_end_with_the_seq_and_others_are_opaque() {
        let room = StreamKind::Room("lobby");
        assert!(room.accepts_id("7-12", 12));
        for id in ["", "7-1", "7-112", "AQcC"] {
            assert!(!room.accepts_id(id, 12), "{id}");
        }
        assert!(StreamKind::AllRooms.accepts_id("AQ-_9z.", 12));
        for id in ["", "AQ==", "a b", "A\u{e9}"] {
            assert!(!StreamKind::AllRooms.accepts_id(id, 12), "{id}");
        }
    }
}
