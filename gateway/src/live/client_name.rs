//! Names by which apps tell their installations or tabs apart.

/// A name by which an app tells its installations or tabs apart: 1–64 of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// Longest name, in characters.
    pub const MAX_LEN: usize = 64;

    /// Parses a name; `None` if it is not one.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let fits = (1..=Self::MAX_LEN).contains(&raw.len()) && raw.bytes().all(is_plain);
        fits.then(|| Self(raw.to_owned()))
    }

    /// The name as it was given.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_name_has_letters_digits_and_two_signs() {
        for good in ["a", "Tab-1_x", &"x".repeat(64)] {
            assert!(ClientName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "ä", "a.b", "a/b", &"x".repeat(65)] {
            assert!(ClientName::parse(bad).is_none(), "{bad}");
        }
    }
}
