//! Makes the disk slow, failing or full for one process, and simulates a power cut.
//!
//! `kill -9` alone proves little about disks: what a process has written stays in the kernel's memory. So a small C
//! library (`shim/disk.c`, no Rust, since that would need unsafe code) is loaded between the process and the kernel, and
//! records how much of each file was synced. A power cut keeps that much and nothing more.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Explain as _, Failure, Result};
use crate::programs::find_in_path;

/// The source of the library.
const SOURCE: &str = include_str!("../shim/disk.c");

/// The disk as one process sees it.
#[derive(Debug, Clone)]
pub struct Disk {
    library: PathBuf,
    control: PathBuf,
}

/// How a disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskCondition {
    /// How much longer every sync takes, in milliseconds.
    pub slow_ms: u64,
    /// Whether syncs fail.
    pub fails: bool,
    /// Whether nothing more can be written.
    pub is_full: bool,
}

impl Disk {
    /// Builds the library in `directory` for processes that are called `name`; a failure without a C compiler.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let compiler = find_in_path("cc").ok_or_else(|| Failure::new("there is no cc: install gcc"))?;
        let (source, library) = (directory.join(format!("{name}-disk.c")), directory.join(format!("{name}-disk.so")));
        fs::write(&source, SOURCE)?;
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .output()?;
        if !built.status.success() {
            return Err(Failure::new(format!("cc failed: {}", String::from_utf8_lossy(&built.stderr))));
        }
        let disk = Self {
            library,
            control: directory.join(format!("{name}-disk.condition")),
        };
        disk.set(DiskCondition::default())?;
        Ok(disk)
    }

    /// The environment of a process that is to have this disk.
    #[must_use]
    pub fn settings(&self) -> [(String, String); 2] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("RIG_DISK".to_owned(), text(&self.control)),
        ]
    }

    /// Changes how it behaves, from the next call of the process on.
    pub fn set(&self, condition: DiskCondition) -> Result<()> {
        let DiskCondition {
            slow_ms,
            fails,
            is_full,
        } = condition;
        // Renamed into place: the process may read it at any moment.
        let fresh = self.control.with_extension("fresh");
        fs::write(&fresh, format!("{slow_ms} {} {}\n", u8::from(fails), u8::from(is_full)))?;
        Ok(fs::rename(fresh, &self.control)?)
    }
}

/// Removes from every file in `directory` whose name begins with `prefix` the bytes that were not synced, as a power cut
/// would. The process must be dead. Returns how many bytes were removed.
pub(crate) fn cut_power(directory: &Path, prefix: &str) -> Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let file = entry?.path();
        let Some(synced) = synced_size(&file, prefix)? else {
            continue;
        };
        let length = fs::metadata(&file)?.len();
        if length > synced {
            OpenOptions::new().write(true).open(&file)?.set_len(synced)?;
            removed += length - synced;
        }
    }
    Ok(removed)
}

/// How much of `file` was synced; `None` if its name does not begin with `prefix` or it never was synced.
fn synced_size(file: &Path, prefix: &str) -> Result<Option<u64>> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let note = file.with_file_name(format!("{name}.synced"));
    if !name.starts_with(prefix) || !note.is_file() {
        return Ok(None);
    }
    let size = fs::read(&note)?.try_into().map_err(|_| Failure::new("not eight bytes"));
    Ok(Some(u64::from_ne_bytes(size.explain(|| format!("{}", note.display()))?)))
}
