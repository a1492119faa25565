//! Which idempotency key each post carries.

use clap::ValueEnum;
use uuid::Uuid;

/// Kinds of idempotency keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// UUIDs of version 7, which begin with a timestamp, as apps are advised to send
    Ordered,
    /// UUIDs of version 4
    Random,
    /// No key
    None,
}

impl KeyKind {
    /// What the figures append to the name of the server.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ordered => "",
            Self::Random => ", random keys",
            Self::None => ", no keys",
        }
    }

    /// A new key, unless posts have none.
    pub(crate) fn fresh(self) -> Option<Uuid> {
        match self {
            Self::Ordered => Some(Uuid::now_v7()),
            Self::Random => Some(Uuid::new_v4()),
            Self::None => None,
        }
    }
}
