//! What identifies a user: username, e-mail and public id.
//!
//! Each of these types is parsed in one of two ways. `parse` accepts what was valid in any release: it is for lookups, and for
//! values from our own log or database. `parse_new` accepts what a user may choose today. `key` is equal for values that a reader
//! takes for the same: only one user may choose one of them.

use std::fmt;

use super::text::{caseless, composed, is_legible, skeleton};
use super::{Invalid, check_length};

/// Words that paths have in the place of a user (`/user/me`). Nobody can choose them, in upper or lower case.
const RESERVED: [&str; 6] = ["blocks", "events", "invites", "me", "rooms", "sync"];

/// Refuses reserved words.
fn check_free(field: &'static str, key: &str) -> Result<(), Invalid> {
    if RESERVED.contains(&key) {
        return Err(Invalid::new(field, "reserved", "This word has a meaning of its own here: choose another."));
    }
    Ok(())
}

/// Display name of a user: 1–50 characters, without spaces at the ends. It is unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Username(Box<str>);

impl Username {
    /// The longest accepted name, in characters.
    pub const MAX_LEN: usize = 50;

    /// Accepts `raw` unchanged if it was valid in any release, or returns why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("username", raw, 1, Self::MAX_LEN)?;
        if raw.chars().any(is_unprintable) || raw.trim() != raw {
            let message = "Use printable characters, with no spaces at the ends.";
            return Err(Invalid::new("username", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// Accepts `raw` in its composed form as the name of a new user, or returns why not.
    ///
    /// Every character must be visible, or be needed by a script or an emoji at its position. Characters that clients and proxies
    /// change in a path are refused, since later paths contain names.
    pub fn parse_new(raw: &str) -> Result<Self, Invalid> {
        let name = Self::parse(raw)?.composed();
        check_length("username", &name.0, 1, Self::MAX_LEN)?;
        if !is_legible(&name.0) {
            let message =
                "Use characters that can be seen, and no others except where a script or an emoji needs them.";
            return Err(Invalid::new("username", "bad_characters", message));
        }
        if name.0.contains(['/', '\\', '%']) || matches!(&*name.0, "." | "..") {
            let message = "'/', '\\' and '%' cannot be used, nor '.' or '..' alone.";
            return Err(Invalid::new("username", "bad_characters", message));
        }
        check_free("username", &caseless(&name.0))?;
        Ok(name)
    }

    /// The name as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in composed form, as [`Username::parse_new`] would return it.
    #[must_use]
    pub fn composed(&self) -> Self {
        Self(composed(&self.0).into())
    }

    /// A text that is equal for names that look the same, ignoring case: the skeleton of UTS 39.
    #[must_use]
    pub fn key(&self) -> String {
        skeleton(&self.0)
    }
}

/// Whether `c` is a control character or a mark that reorders or hides text. No release has accepted these.
fn is_unprintable(c: char) -> bool {
    let hides = matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    c.is_control() || hides
}

/// E-mail address: 1–254 visible characters. An operator may require the form `name@host.tld`.
///
/// `Debug` does not show it, since addresses must never reach a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(Box<str>);

impl Email {
    /// The longest accepted address, in characters (RFC 5321 leaves 254 for an address in a path).
    pub const MAX_LEN: usize = 254;

    /// Accepts `raw` unchanged if it was valid in any release, or returns why not. With `strict` it must have one `@` with a dotted
    /// host after it.
    pub fn parse(raw: &str, strict: bool) -> Result<Self, Invalid> {
        check_length("email", raw, 1, Self::MAX_LEN)?;
        if raw.chars().any(|c| c.is_whitespace() || is_unprintable(c)) {
            let message = "Use visible characters only.";
            return Err(Invalid::new("email", "bad_characters", message));
        }
        if strict && !has_address_form(raw) {
            let message = "Must be an address such as name@example.org.";
            return Err(Invalid::new("email", "bad_form", message));
        }
        Ok(Self(raw.into()))
    }

    /// Accepts `raw` unchanged as the address of a new user, or returns why not.
    pub fn parse_new(raw: &str, strict: bool) -> Result<Self, Invalid> {
        let email = Self::parse(raw, strict)?;
        if is_legible(&composed(raw)) {
            return Ok(email);
        }
        Err(Invalid::new("email", "bad_characters", "Use visible characters only."))
    }

    /// The address as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text that is equal for all spellings of an address. Case and forms of characters make no difference, as with every mail
    /// service in use.
    #[must_use]
    pub fn key(&self) -> String {
        caseless(&self.0)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(***)")
    }
}

/// Whether `raw` has the form of an address. Only a message that arrives proves one; this refuses what cannot be one.
fn has_address_form(raw: &str) -> bool {
    match raw.split_once('@') {
        Some((name, host)) => {
            let labels: Vec<&str> = host.split('.').collect();
            !name.is_empty() && !host.contains('@') && labels.len() > 1 && labels.iter().all(|label| !label.is_empty())
        }
        None => false,
    }
}

/// Name of a user in URLs: 1–64 ASCII letters, digits, `.`, `_` and `-`. It is unique, and compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicId(Box<str>);

impl PublicId {
    /// The longest accepted id, in characters.
    pub const MAX_LEN: usize = 64;

    /// Accepts `raw` unchanged if it was valid in any release, or returns why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("public_id", raw, 1, Self::MAX_LEN)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !raw.chars().all(allowed) || raw == "." || raw == ".." {
            let message = "Use letters, digits, '.', '_' and '-' only.";
            return Err(Invalid::new("public_id", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// Accepts `raw` unchanged as the id of a new user, or returns why not.
    pub fn parse_new(raw: &str) -> Result<Self, Invalid> {
        let id = Self::parse(raw)?;
        check_free("public_id", &caseless(raw))?;
        Ok(id)
    }

    /// The id as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text that is equal for ids that look the same, ignoring case. It can be compared with [`Username::key`].
    #[must_use]
    pub fn key(&self) -> String {
        skeleton(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_must_be_legible() {
        for good in [
            "test1",
            "Ann Lee",
            "Jürgen",
            "名前",
            "🦀",
            "علی\u{200C}رضا",
            "👨\u{200D}👩\u{200D}👧",
            "C#",
            "a.b",
        ] {
            assert!(Username::parse_new(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            " ann",
            "ann ",
            "a\nb",
            "a\0",
            "ann\u{202E}",
            "a\u{200B}nn",
            "ann\u{AD}",
            "\u{3164}",
            "a\u{200D}nn",
            &"x".repeat(51),
            ".",
            "..",
            "a/b",
            "a\\b",
            "%2e",
        ] {
            let refused = Username::parse_new(bad).unwrap_err();
            assert!(matches!(refused.code, "bad_characters" | "too_short" | "too_long"), "{bad:?}: {refused}");
        }
    }

    #[test]
    fn names_of_earlier_releases_stay_valid() {
        for old in ["ann\u{AD}", "\u{3164}", "me", "..", "a/b", "Ju\u{308}rgen"] {
            assert_eq!(Username::parse(old).unwrap().as_str(), old);
        }
        assert_eq!(PublicId::parse("me").unwrap().as_str(), "me");
        assert_eq!(Email::parse("ann\u{AD}", false).unwrap().as_str(), "ann\u{AD}");
    }

    #[test]
    fn words_of_paths_are_reserved() {
        for word in RESERVED {
            for spelling in [word.to_owned(), word.to_uppercase()] {
                assert_eq!(Username::parse_new(&spelling).unwrap_err().code, "reserved");
                assert_eq!(PublicId::parse_new(&spelling).unwrap_err().code, "reserved");
            }
        }
        assert!(Username::parse_new("me too").is_ok());
    }

    #[test]
    fn a_new_username_is_stored_in_composed_form() {
        assert_eq!(Username::parse_new("Ju\u{308}rgen").unwrap().as_str(), "J\u{FC}rgen");
        // The length is that of the composed form.
        assert!(Username::parse_new(&"u\u{308}".repeat(25)).is_ok());
    }

    #[test]
    fn keys_are_equal_for_names_that_look_the_same() {
        let key = |name: &str| Username::parse(name).unwrap().key();
        assert_eq!(key("carol"), key("CAROL"));
        assert_eq!(key("admin"), key("\u{430}dmin"));
        assert_ne!(key("carol"), key("carola"));
        assert_eq!(key("admin"), PublicId::parse("Admin").unwrap().key());
        let email = |raw: &str| Email::parse(raw, false).unwrap().key();
        assert_eq!(email("Carol@Example.org"), email("carol@example.org"));
        // Addresses that only look the same are different.
        assert_ne!(email("\u{430}dmin@example.org"), email("admin@example.org"));
    }

    #[test]
    fn only_strict_emails_need_a_host() {
        assert!(Email::parse_new("test1", false).is_ok());
        assert!(Email::parse_new("test1", true).is_err());
        assert!(Email::parse_new("test@test.com", true).is_ok());
        for bad in ["@test.com", "a@b", "a@b.", "a@@b.c", "a b@c.d", "a\u{AD}@b.c"] {
            assert!(Email::parse_new(bad, true).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_hides_an_email() {
        let email = Email::parse("ann@example.org", false).unwrap();
        assert!(!format!("{email:?}").contains("ann"));
    }
}
