//! The name of a room.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Invalid, check_length};

/// Name of a room: 1–64 ASCII letters, digits, `.`, `_` and `-`. It is case-sensitive, but the names of two rooms must differ in
/// more than case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoomName(Box<str>);

impl RoomName {
    /// The longest accepted name, in characters.
    pub const MAX_LEN: usize = 64;

    /// Accepts `raw` unchanged or returns why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("room", raw, 1, Self::MAX_LEN)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        // "." and ".." have valid characters, but every HTTP client removes them from a path.
        if !raw.chars().all(allowed) || raw == "." || raw == ".." {
            let message = "Use letters, digits, '.', '_' and '-' only.";
            return Err(Invalid::new("room", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// The name as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
}
