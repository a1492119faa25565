//! Why the gateway could not start, or had to stop, and the exit code of each reason.

use shared::bootstrap::{BootstrapError, Fatal};
use shared::settings::EXIT_USAGE;
use shared::storage::StoreError;

use crate::auth;
use crate::listen::ListenAddress;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A step of the start that both binaries share failed.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// There are no keys for access tokens.
    #[error("SIGNING_KEY_FILE: {0}")]
    Keys(#[from] auth::signing_keys::KeyError),
    /// Tokens of this gateway would be refused by all others, and theirs by this one.
    #[error(
        "SIGNING_KEY_FILE holds none of the keys that this installation signs with: copy the other gateways' file here; to \
         change keys, add the new one to their file as a further line first, or run `gateway replace-keys`, which logs \
         everybody out"
    )]
    ForeignKeys,
    /// Passwords cannot be hashed.
    #[error("passwords cannot be hashed")]
    Hashing,
    /// The threads that write to streams cannot be started.
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {0} (GATEWAY_LISTEN): {1}")]
    Listen(ListenAddress, std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of the gateway ended unasked.
    #[error("the gateway stopped because a part of it failed")]
    Failed,
    /// A second signal came before the gateway had stopped.
    #[error("stopped at once by a second signal")]
    Forced,
    /// There is nobody of this name.
    #[error("there is no user named '{0}'")]
    NoSuchUser(String),
}

impl Fatal for StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Bootstrap(error) => error.exit_code(),
            Self::Keys(_) | Self::ForeignKeys => EXIT_USAGE,
            Self::Hashing
            | Self::Threads(_)
            | Self::Listen(..)
            | Self::Store(_)
            | Self::Failed
            | Self::Forced
            | Self::NoSuchUser(_) => 1,
        }
    }
}
