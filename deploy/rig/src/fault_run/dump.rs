//! Writes evidence and logs of a run that broke a promise into a directory of its own that stays.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::evidence::{EditedRooms, Evidence, UserStreams};
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
    for call in &evidence.membership_calls {
        writeln!(text, "{call:?}")?;
    }
    for room in &evidence.room_members {
        let (name, incarnation, owner) = (&room.room, room.incarnation, &room.owner);
        writeln!(text, "{name} ({incarnation}) of {owner}: {:?}", room.members)?;
        for entry in &room.log {
            writeln!(text, "  {entry:?}")?;
        }
    }
    for position in &evidence.positions {
        writeln!(text, "{position:?}")?;
    }
    for (room, history) in evidence.history.iter().enumerate() {
        for message in history {
            writeln!(text, "room {room}: {message:?}")?;
        }
    }
    dump_edited(&mut text, &evidence.edited)?;
    dump_user_streams(&mut text, &evidence.user_streams)?;
    fs::write(directory.join("evidence.txt"), text)?;
    for entry in fs::read_dir(stack_directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), directory.join(entry.file_name()))?;
        }
    }
    Ok(directory)
}

fn dump_edited(text: &mut String, edited: &EditedRooms) -> Result<()> {
    for post in &edited.posts {
        writeln!(text, "edited room: {post:?}")?;
    }
    for change in &edited.changes {
        writeln!(text, "{change:?}")?;
    }
    for followed in &edited.streams {
        writeln!(text, "edited room: {followed:?}")?;
    }
    for (room, contents) in edited.contents.iter().enumerate() {
        for (source, entries) in [("history", &contents.history), ("database", &contents.log)] {
            for entry in entries {
                writeln!(text, "edited room {room} in {source}: {entry:?}")?;
            }
        }
        writeln!(text, "edited room {room}: {:?}", contents.reactions)?;
    }
    Ok(())
}

fn dump_user_streams(text: &mut String, of_users: &UserStreams) -> Result<()> {
    for record in &of_users.records {
        writeln!(text, "{record:?}")?;
    }
    for call in &of_users.calls {
        writeln!(text, "{call:?}")?;
    }
    for rooms in &of_users.final_rooms {
        writeln!(text, "{rooms:?}")?;
    }
    for (name, room) in &of_users.rooms {
        writeln!(text, "{name}: {room:?}")?;
    }
    Ok(())
}
