//! What identifies a user to others and to us.

use std::fmt;

use super::{Invalid, check_length};

/// Shown name of a user: 1–50 printable characters, no spaces at the ends. Unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Username(Box<str>);

impl Username {
    /// Longest accepted name, in characters.
    pub const MAX_LEN: usize = 50;

    /// Accepts `raw` as it stands or says why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("username", raw, 1, Self::MAX_LEN)?;
        if raw.chars().any(is_unprintable) || raw.trim() != raw {
            let message = "Use printable characters, with no spaces at the ends.";
            return Err(Invalid::new("username", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters and the marks that reorder or hide text: with them one name could be drawn as another.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// E-mail address: 1–254 visible characters; an operator may demand the form `name@host.tld`.
///
/// `Debug` shows nothing of it: addresses never reach a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(Box<str>);

impl Email {
    /// Longest accepted address, in characters (RFC 5321 leaves 254 for an address in a path).
    pub const MAX_LEN: usize = 254;

    /// Accepts `raw` as it stands or says why not; `strict` demands one `@` with a dotted host behind it.
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

    /// The address as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(***)")
    }
}

/// Only a message that arrives proves an address; this catches what cannot be one.
fn has_address_form(raw: &str) -> bool {
    match raw.split_once('@') {
        Some((name, host)) => {
            let labels: Vec<&str> = host.split('.').collect();
            !name.is_empty() && !host.contains('@') && labels.len() > 1 && labels.iter().all(|label| !label.is_empty())
        }
        None => false,
    }
}

/// Name of a user in URLs: 1–64 ASCII letters, digits, `.`, `_` and `-`. Unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicId(Box<str>);

impl PublicId {
    /// Longest accepted id, in characters.
    pub const MAX_LEN: usize = 64;

    /// Accepts `raw` as it stands or says why not.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        check_length("public_id", raw, 1, Self::MAX_LEN)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !raw.chars().all(allowed) || raw == "." || raw == ".." {
            let message = "Use letters, digits, '.', '_' and '-' only.";
            return Err(Invalid::new("public_id", "bad_characters", message));
        }
        Ok(Self(raw.into()))
    }

    /// The id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_cannot_pose_as_others() {
        for good in ["test1", "Ann Lee", "Jürgen", "名前", "🦀"] {
            assert!(Username::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            " ann",
            "ann ",
            "a\nb",
            "a\0",
            "ann\u{202E}",
            "a\u{200B}nn",
            &"x".repeat(51),
        ] {
            assert!(Username::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_specification_registers_an_email_without_a_host() {
        assert!(Email::parse("test1", false).is_ok());
        assert!(Email::parse("test1", true).is_err());
        assert!(Email::parse("test@test.com", true).is_ok());
        for bad in ["@test.com", "a@b", "a@b.", "a@@b.c", "a b@c.d"] {
            assert!(Email::parse(bad, true).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_email_never_shows_in_debug_output() {
        let email = Email::parse("ann@example.org", true).unwrap();
        assert!(!format!("{email:?}").contains("ann"));
    }
}
