//! Common passwords, which registration refuses: an attacker who tries a few of them at many accounts finds some.

use std::collections::HashSet;
use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use shared::domain::Invalid;

/// The list, in lower case; lines that begin with `#` name its source.
static LIST: &[u8] = include_bytes!("../../data/common_passwords.txt.gz");

/// Some 30,000 words: 2 MB, unpacked at the first registration.
static COMMON: LazyLock<HashSet<Box<str>>> = LazyLock::new(|| {
    let mut text = String::new();
    GzDecoder::new(LIST)
        .read_to_string(&mut text)
        .expect("the list in the binary can be read, as a test shows");
    text.lines().filter(|line| !line.starts_with('#')).map(Box::from).collect()
});

/// Fails if `password` is one that many people use, or one of the user's own `names`, whatever the case of its letters.
pub fn check(password: &str, names: &[&str]) -> Result<(), Invalid> {
    let password = password.to_lowercase();
    let is_name = |name: &&str| {
        let name = name.to_lowercase();
        // The part of an e-mail before the `@` is a name, too.
        password == name || name.rsplit_once('@').is_some_and(|(local, _)| local == password)
    };
    if names.iter().any(is_name) {
        let message = "Must not be your own name or e-mail.";
        return Err(Invalid::new("password", "own_name", message));
    }
    if COMMON.contains(password.as_str()) {
        let message = "Is used by many people, and so among the first that are tried.";
        return Err(Invalid::new("password", "too_common", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_and_own_names_are_refused() {
        let code =
            |password: &str| check(password, &["Ann Example", "ann.e@example.org"]).map_err(|invalid| invalid.code);
        for common in ["password", "PassWord1", "12345678", "qwertyuiop", "iloveyou"] {
            assert_eq!(code(common), Err("too_common"), "{common}");
        }
        for own in ["ann example", "Ann.E@example.org", "ann.e"] {
            assert_eq!(code(own), Err("own_name"), "{own}");
        }
        for good in ["correct horse battery staple", "secret of ann", "ann example 7"] {
            assert_eq!(code(good), Ok(()), "{good}");
        }
        assert!(COMMON.len() > 20_000 && COMMON.iter().all(|word| !word.contains(char::is_whitespace)));
    }
}
