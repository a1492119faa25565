//! What a check needs, and its result.

use std::path::PathBuf;

use crate::failure::Result;

/// The directories and files that the checks need.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Directory of what was installed and compiled.
    pub clients: PathBuf,
    /// Directory of the linters' rules and the settings of Schemathesis.
    pub rules: PathBuf,
    /// The OpenAPI document.
    pub document: PathBuf,
}

/// One check and its result.
pub struct Check {
    /// What was checked.
    pub name: String,
    /// What was seen if it passed, or why it failed.
    pub outcome: Result<String>,
}

impl Check {
    pub(super) fn new(name: impl Into<String>, outcome: Result<String>) -> Self {
        Self {
            name: name.into(),
            outcome,
        }
    }
}
