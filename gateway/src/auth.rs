//! Who is calling: passwords prove it once, tokens carry it, sessions can take it back.

pub mod common_passwords;
pub mod keys;
pub mod known_origins;
pub mod passwords;
pub mod sessions;
pub mod tokens;
