//! Clients, generators and linters that are not ours, played against the real server.
//!
//! ```text
//! linters      the document, as Redocly and Spectral judge it
//! generated    clients made from the document, each through one story
//! streams ──── Follower ── Proxy    client libraries for server-sent events, through everything that can break
//! callers      Schemathesis, in the shoes of four kinds of caller
//! ```
//!
//! `deploy/conformance/run.sh` installs and compiles what is started here.

mod callers;
mod follower;
mod generated;
mod library;
mod linters;
mod programs;
mod streams;
mod texts;

use std::path::PathBuf;
use std::str::FromStr;

use crate::{Failure, Result};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// What was installed and compiled.
    pub clients: PathBuf,
    /// The rules of the linters, and the settings of Schemathesis.
    pub rules: PathBuf,
    /// The document.
    pub document: PathBuf,
}

/// A group of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What linters say of the document.
    Linters,
    /// Clients that were generated from it.
    Generated,
    /// Libraries that follow a room.
    Streams,
    /// Schemathesis.
    Callers,
}

impl Group {
    /// All of them, the quick ones first.
    pub const ALL: [Self; 4] = [Self::Linters, Self::Generated, Self::Callers, Self::Streams];

    /// Runs its checks; a failure means that they could not be run at all.
    pub async fn run(self, places: &Places) -> Result<Vec<Check>> {
        match self {
            Self::Linters => Ok(linters::run(places).await),
            Self::Generated => generated::run(places).await,
            Self::Streams => streams::run(places).await,
            Self::Callers => callers::run(places).await,
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

/// One thing that holds or not.
pub struct Check {
    /// What was checked.
    pub name: String,
    /// What was seen when it holds, or why it does not.
    pub outcome: Result<String>,
}

impl Check {
    fn new(name: impl Into<String>, outcome: Result<String>) -> Self {
        Self {
            name: name.into(),
            outcome,
        }
    }
}
