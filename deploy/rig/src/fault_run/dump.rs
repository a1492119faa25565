//! Writes evidence and logs of a run that broke a promise into a directory of its own that stays.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::evidence::Evidence;
use crate::failure::Result;
use crate::oracle::Violation;

/// Writes the evidence and copies the files in `stack_directory`, logs among them; returns the new directory.
pub(super) fn dump(
    stack_directory: &Path,
    seed: u64,
    evidence: &Evidence,
    violations: &[Violation],
) -> Result<PathBuf> {
    let directory = tempfile::Builder::new().prefix(&format!("roomcast-seed-{seed}-")).tempdir()?.keep();
    let mut text = String::new();
    for violation in violations {
        writeln!(text, "{violation}")?;
    }
    for post in &evidence.posts {
        writeln!(text, "{post:?}")?;
    }
    for stream in &evidence.streams {
        writeln!(text, "{stream:?}")?;
    }
    for response in &evidence.room_responses {
        writeln!(text, "{response:?}")?;
    }
    for rejoin in &evidence.rejoins {
        writeln!(text, "{rejoin:?}")?;
    }
    for position in &evidence.positions {
        writeln!(text, "{position:?}")?;
    }
    for (room, history) in evidence.history.iter().enumerate() {
        for message in history {
            writeln!(text, "room {room}: {message:?}")?;
        }
    }
    fs::write(directory.join("evidence.txt"), text)?;
    for entry in fs::read_dir(stack_directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), directory.join(entry.file_name()))?;
        }
    }
    Ok(directory)
}
