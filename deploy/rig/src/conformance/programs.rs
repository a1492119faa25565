//! Runs a third-party program to its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::failure::{Explain, Failure, Result};
use crate::programs::{command, find_in_path};

/// Lines shown of a program that failed.
const SHOWN_LINES: usize = 60;

/// A program with its arguments and variables; of the environment it inherits nothing but `PATH`.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
}

impl Program {
    /// The program at `path`, or the one of that name in `PATH` if it has no slash.
    pub(super) fn new(path: impl AsRef<Path>, arguments: &[&str]) -> Self {
        let path = path.as_ref();
        let is_name = path.components().count() == 1;
        let found = is_name.then(|| find_in_path(&path.to_string_lossy())).flatten();
        Self {
            path: found.unwrap_or_else(|| path.to_owned()),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            variables: Vec::new(),
        }
    }

    /// The same with further arguments.
    pub(super) fn with(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// The same with a variable of the environment.
    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command that starts it; it is killed when it is dropped.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::from(command(&self.path));
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // Java and Python read arguments and write output in the encoding of the locale.
            .env("LC_ALL", "C.UTF-8")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end and returns what it wrote; an exit code other than 0 is a failure that shows the end of that.
    pub(super) async fn run(&self, within: Duration) -> Result<String> {
        let (ended_well, text) = self.output(within).await?;
        if ended_well {
            return Ok(text);
        }
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        Err(Failure::new(format!("{} failed:\n{shown}", self.path.display())))
    }

    /// Runs it to its end and returns whether its exit code was 0, and what it wrote.
    pub(super) async fn output(&self, within: Duration) -> Result<(bool, String)> {
        let output = tokio::time::timeout(within, self.command().output()).await;
        let output = output.explain(|| format!("{} did not end within {within:?}", self.path.display()))?;
        let output = output.explain(|| format!("cannot start {}", self.path.display()))?;
        let text = [output.stdout, output.stderr].map(|raw| String::from_utf8_lossy(&raw).into_owned()).concat();
        Ok((output.status.success(), text))
    }
}
