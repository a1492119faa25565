//! Settings of accounts and tokens.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Shortest accepted password if nothing else is set, in characters.
pub(crate) const PASSWORD_MIN_LENGTH: u16 = 8;

/// Accounts and tokens.
#[derive(Debug, Clone, Args)]
pub struct AccountArgs {
    /// File with the keys of access tokens, one a line in hexadecimal; created with a random key if it does not exist.
    ///
    /// The first key signs, all of them verify. Every gateway needs the same file. At least 32 bytes a key.
    #[arg(long, env = "SIGNING_KEY_FILE", default_value = ".data/signing.key")]
    pub signing_key_file: PathBuf,

    /// Seconds until an access token expires.
    #[arg(long, env = "TOKEN_TTL_S", default_value_t = 30 * 24 * 3600, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub token_ttl_s: u64,

    /// Shortest accepted password, in characters.
    #[arg(long, env = "PASSWORD_MIN_LENGTH", default_value_t = PASSWORD_MIN_LENGTH, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub password_min_length: u16,

    /// Accept passwords that many people use, or that are the user's own name. For trying out only.
    #[arg(long, env = "ALLOW_WEAK_PASSWORDS")]
    pub allow_weak_passwords: bool,

    /// Require e-mail addresses of the form `name@host.tld`.
    #[arg(long, env = "STRICT_EMAIL")]
    pub strict_email: bool,

    /// Make the first user who registers an admin. For trying out only.
    #[arg(long, env = "FIRST_USER_IS_ADMIN")]
    pub first_user_is_admin: bool,
}

impl AccountArgs {
    /// The life of a token as a duration.
    #[must_use]
    pub fn token_ttl(&self) -> Duration {
        Duration::from_secs(self.token_ttl_s)
    }
}
