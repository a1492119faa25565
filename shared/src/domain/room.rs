//! The name of a room.

use std::{fmt, iter};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{Invalid, check_length};

/// Name of a room: 1–64 ASCII letters, digits, `.`, `_` and `-`. It is case-sensitive, but the names of two rooms must differ in
/// more than case.
///
/// The name of a direct room is made by the program: `~` and 26 characters of `a-z2-7`. No other room can have such a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoomName(Box<str>);

/// The first character of names of direct rooms. It is not encoded in a URL path (RFC 3986, section 2.3).
const DIRECT_PREFIX: char = '~';

/// Characters behind it, of 5 random bits each: as unlikely to be guessed or to be made twice as a random UUID.
const DIRECT_LEN: usize = 26;

/// The characters that they are: those of base32 (RFC 4648, section 6), in lower case.
const DIRECT_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl RoomName {
    /// The longest accepted name, in characters.
    pub const MAX_LEN: usize = 64;

    /// Accepts `raw` unchanged as the name of a room that may exist, or returns why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        if raw.strip_prefix(DIRECT_PREFIX).is_some_and(is_direct_id) {
            return Ok(Self(raw.into()));
        }
        Self::parse_new(raw)
    }

    /// Accepts `raw` unchanged as a name that a user chooses for a room, or returns why not.
    pub fn parse_new(raw: &str) -> Result<Self, Invalid> {
        check_length("room", raw, 1, Self::MAX_LEN)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        // "." and ".." have valid characters, but every HTTP client removes them from a path.
        if !raw.chars().all(allowed) || raw == "." || raw == ".." {
            let message = "Use letters, digits, '.', '_' and '-' only.";
            return Err(Invalid::new("room", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// A new name for a direct room, which no other room has.
    #[must_use]
    pub fn fresh_direct() -> Self {
        let random = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes);
        // Bytes 6 and 8 have the constant bits (RFC 9562, section 4).
        let random = random.iter().flat_map(|id| id.iter().enumerate().filter(|(index, _)| !matches!(index, 6 | 8)));
        let id = random.take(DIRECT_LEN).map(|(_, byte)| char::from(DIRECT_ALPHABET[usize::from(byte & 31)]));
        Self(iter::once(DIRECT_PREFIX).chain(id).collect())
    }

    /// Whether it is the name of a direct room.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.0.starts_with(DIRECT_PREFIX)
    }

    /// The name as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_direct_id(raw: &str) -> bool {
    raw.len() == DIRECT_LEN && raw.bytes().all(|byte| DIRECT_ALPHABET.contains(&byte))
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoomName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = String::deserialize(deserializer)?;
        Self::parse(&raw).map_err(serde::de::Error::custom)
    }
}

/// What a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// A room that has a name of its own, and any number of members.
    Room,
    /// The one room of two users.
    Direct,
}

/// A text that is no [`RoomKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of room")]
pub struct InvalidRoomKind;

impl RoomKind {
    /// As it is written in SQL and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Direct => "direct",
        }
    }
}

impl TryFrom<String> for RoomKind {
    type Error = InvalidRoomKind;

    fn try_from(raw: String) -> Result<Self, Self::Error> {
        match raw.as_str() {
            "room" => Ok(Self::Room),
            "direct" => Ok(Self::Direct),
            _ => Err(InvalidRoomKind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unchanged_in_a_url_path() {
        for good in ["a", "test-room_1.x", &"x".repeat(64), "...", "-"] {
            assert_eq!(RoomName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", &"x".repeat(65), "a b", "a/b", "ä", ".", "..", "a\n", "a\0"] {
            assert!(RoomName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn direct_rooms_have_names_that_no_other_room_can_have() {
        let (first, second) = (RoomName::fresh_direct(), RoomName::fresh_direct());
        assert_ne!(first, second);
        for name in [first, second] {
            assert!(name.is_direct());
            assert_eq!(RoomName::parse(name.as_str()).unwrap(), name);
            assert_eq!((name.as_str().len(), &name.as_str()[..1]), (27, "~"));
            assert!(RoomName::parse_new(name.as_str()).is_err(), "nobody can choose it");
        }
        assert!(!RoomName::parse("lobby").unwrap().is_direct());
        let (short, capital, digit) = ("a".repeat(25), "A".repeat(26), "1".repeat(26));
        for bad in ["", "~", "lobby", &short, &capital, &digit, &"a".repeat(27)] {
            assert!(RoomName::parse(&format!("~{bad}")).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in [RoomKind::Room, RoomKind::Direct] {
            assert_eq!(RoomKind::try_from(kind.as_str().to_owned()), Ok(kind));
        }
        assert_eq!(RoomKind::try_from("other".to_owned()), Err(InvalidRoomKind));
    }
}
