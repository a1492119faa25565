//! Counts, by the logs of gateways, their SQL statements, and how often they read history while their streams catch up.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rig::{Explain as _, Failure, Result, statement_log};
use serde::{Deserialize, Serialize};

/// Reads of history in SQL while streams caught up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryReads {
    /// All reads.
    pub total: usize,
    /// The most reads within one second of the clock, divided by the number of rooms.
    pub most_per_room_and_s: f64,
}

/// The logs of all gateways, and their lengths at the mark.
#[derive(Debug)]
pub(crate) struct StatementLogs(Vec<(PathBuf, usize)>);

impl StatementLogs {
    /// Marks the present end of each log. Fails if a gateway logs no statements, since that would look like no reads.
    pub(crate) fn mark(files: &[PathBuf]) -> Result<Self> {
        let mark = |file: &PathBuf| {
            let log = read(file)?;
            match statement_log::count(&log) {
                0 => Err(Failure::new(format!("{} shows no statement", file.display()))),
                _ => Ok((file.clone(), log.len())),
            }
        };
        files.iter().map(mark).collect::<Result<_>>().map(Self)
    }

    /// All statements since the mark; `None` without logs.
    pub(crate) fn statements_since_mark(&self) -> Result<Option<usize>> {
        let mut count = 0;
        for (file, length) in &self.0 {
            count += statement_log::count(read(file)?.get(*length..).unwrap_or_default());
        }
        Ok((!self.0.is_empty()).then_some(count))
    }

    /// The reads since the mark, in so many rooms; `None` without logs.
    pub(crate) fn reads_since_mark(&self, rooms: usize) -> Result<Option<HistoryReads>> {
        let mut by_second: BTreeMap<String, usize> = BTreeMap::new();
        for (file, length) in &self.0 {
            let log = read(file)?;
            for (second, count) in statement_log::history_reads_per_second(log.get(*length..).unwrap_or_default()) {
                *by_second.entry(second.to_owned()).or_default() += count;
            }
        }
        let most = by_second.values().copied().max().unwrap_or(0);
        Ok((!self.0.is_empty()).then(|| HistoryReads {
            total: by_second.values().sum(),
            most_per_room_and_s: for_each(most, rooms),
        }))
    }
}

fn read(file: &PathBuf) -> Result<String> {
    let raw = fs::read(file).explain(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&raw).into_owned())
}

#[expect(clippy::cast_precision_loss, reason = "reads and rooms of a run are far below 2^52")]
fn for_each(of: usize, rooms: usize) -> f64 {
    of as f64 / rooms.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "DEBUG summary=\"\" db.statement=\"FROM messages m ORDER BY m.seq\"\n";

    #[test]
    fn reads_since_the_mark_are_divided_by_the_rooms() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["one.log", "other.log"].map(|name| directory.path().join(name));
        let write = |file: &PathBuf, seconds: &[u32]| {
            let lines = seconds.iter().map(|second| format!("2026-11-26T05:01:{second}.5Z {READ}"));
            fs::write(file, lines.collect::<String>()).unwrap();
        };
        for file in &files {
            write(file, &[10, 10, 10]);
        }
        let logs = StatementLogs::mark(&files).unwrap();
        write(&files[0], &[10, 10, 10, 11, 12, 12]);
        write(&files[1], &[10, 10, 10, 12, 13]);
        let expected = HistoryReads {
            total: 5,
            most_per_room_and_s: 1.5,
        };
        assert_eq!(logs.reads_since_mark(2).unwrap(), Some(expected));
        assert_eq!(logs.statements_since_mark().unwrap(), Some(5));
    }

    #[test]
    fn a_gateway_that_logs_no_statement_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.log");
        fs::write(&file, "2026-11-26T05:01:10.5Z INFO ready\n").unwrap();
        assert!(StatementLogs::mark(&[file]).unwrap_err().to_string().contains("shows no statement"));
        let none = StatementLogs::mark(&[]).unwrap();
        assert_eq!((none.reads_since_mark(2).unwrap(), none.statements_since_mark().unwrap()), (None, None));
    }
}
