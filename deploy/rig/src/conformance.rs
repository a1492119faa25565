//! Runs third-party clients, generators and linters against the real server.
//!
//! ```text
//! linters      the document, as Redocly and Spectral judge it
//! generated    clients generated from the document, each through one scenario, and the reducer of the documentation
//! streams ──── Follower ── Proxy    client libraries for server-sent events, through everything that can break
//! callers      Schemathesis, as four kinds of caller
//! ```
//!
//! `deploy/conformance/run.sh` installs and compiles what is started here.

mod callers;
mod check;
mod follower;
mod generated;
mod hostile_texts;
mod library;
mod linters;
mod programs;
mod room_log;
mod stream_kind;
mod streams;

use std::str::FromStr;

pub use self::check::{Check, Paths};
use crate::failure::{Failure, Result};

/// A group of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What linters report about the document.
    Linters,
    /// Clients that were generated from it, and the reducer of the documentation.
    Generated,
    /// Libraries that follow a room, and all rooms of a user.
    Streams,
    /// Schemathesis.
    Callers,
}

impl Group {
    /// All of them, the quick ones first.
    pub const ALL: [Self; 4] = [Self::Linters, Self::Generated, Self::Callers, Self::Streams];

    /// Runs its checks; a failure means that they could not be run at all.
    pub async fn run(self, paths: &Paths) -> Result<Vec<Check>> {
        match self {
            Self::Linters => Ok(linters::run(paths).await),
            Self::Generated => {
                let mut checks = generated::run(paths).await?;
                checks.push(room_log::run(paths).await);
                Ok(checks)
            }
            Self::Streams => streams::run(paths).await,
            Self::Callers => callers::run(paths).await,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linters => "linters",
            Self::Generated => "generated",
            Self::Streams => "streams",
            Self::Callers => "callers",
        }
    }
}

impl FromStr for Group {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self> {
        let group = Self::ALL.into_iter().find(|group| group.name() == name.trim());
        group.ok_or_else(|| Failure::new(format!("'{name}' is none of linters, generated, streams, callers")))
    }
}
