//! Authentication: a password proves once who somebody is, a token carries the proof, and a session can revoke it.

pub mod common_passwords;
pub mod known_clients;
pub mod passwords;
pub mod sessions;
pub mod signing_keys;
pub mod tokens;
