//! How often gateways read history from SQL while their streams catch up, by their own logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rig::{Explain as _, Failure, Result, statement_log};
use serde::{Deserialize, Serialize};

/// What was read from SQL while streams caught up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reads {
    /// Reads of history in all.
    pub total: usize,
    /// The most in any second of the clock, for each room on average.
    pub most_per_room_and_s: f64,
}

/// The logs of all gateways, and how far they had been written at some moment.
#[derive(Debug)]
pub(crate) struct Logs(Vec<(PathBuf, usize)>);

impl Logs {
    /// As they are now. Fails if a gateway does not tell its statements: none told would look like none sent.
    pub(crate) fn mark(files: &[PathBuf]) -> Result<Self> {
        let mark = |file: &PathBuf| {
            let log = read(file)?;
            match statement_log::count(&log) {
                0 => Err(Failure::new(format!("{} tells of no statement", file.display()))),
                _ => Ok((file.clone(), log.len())),
            }
        };
        files.iter().map(mark).collect::<Result<_>>().map(Self)
    }

    /// What was read since then, of so many rooms; `None` where there is no log to look into.
    pub(crate) fn reads(&self, rooms: usize) -> Result<Option<Reads>> {
        let mut by_second: BTreeMap<String, usize> = BTreeMap::new();
        for (file, length) in &self.0 {
            let log = read(file)?;
            for (second, count) in statement_log::history_reads_per_second(log.get(*length..).unwrap_or_default()) {
                *by_second.entry(second.to_owned()).or_default() += count;
            }
        }
        let most = by_second.values().copied().max().unwrap_or(0);
        Ok((!self.0.is_empty()).then(|| Reads {
            total: by_second.values().sum(),
            most_per_room_and_s: share(most, rooms),
        }))
    }
}

fn read(file: &PathBuf) -> Result<String> {
    let raw = fs::read(file).explain(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&raw).into_owned())
}

#[expect(clippy::cast_precision_loss, reason = "reads and rooms of a run are far below 2^52")]
fn share(of: usize, rooms: usize) -> f64 {
    of as f64 / rooms.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "DEBUG summary=\"\" db.statement=\"FROM messages m ORDER BY m.seq\"\n";

    #[test]
    fn reads_of_all_gateways_since_the_mark_are_shared_out_among_the_rooms() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["one.log", "other.log"].map(|name| directory.path().join(name));
        let write = |file: &PathBuf, seconds: &[u32]| {
            let lines = seconds.iter().map(|second| format!("2026-11-26T05:01:{second}.5Z {READ}"));
            fs::write(file, lines.collect::<String>()).unwrap();
        };
        for file in &files {
            write(file, &[10, 10, 10]);
        }
        let logs = Logs::mark(&files).unwrap();
        write(&files[0], &[10, 10, 10, 11, 12, 12]);
        write(&files[1], &[10, 10, 10, 12, 13]);
        let expected = Reads {
            total: 5,
            most_per_room_and_s: 1.5,
        };
        assert_eq!(logs.reads(2).unwrap(), Some(expected));
    }

    #[test]
    fn of_silent_gateways_nothing_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.log");
        fs::write(&file, "2026-11-26T05:01:10.5Z INFO ready\n").unwrap();
        assert!(Logs::mark(&[file]).unwrap_err().to_string().contains("tells of no statement"));
        assert_eq!(Logs::mark(&[]).unwrap().reads(2).unwrap(), None);
    }
}
