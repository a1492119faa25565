//! Who is calling: passwords prove it once, tokens carry it, sessions can take it back.

pub mod acquaintances;
pub mod keys;
pub mod passwords;
pub mod sessions;
pub mod tokens;
pub mod weak;
