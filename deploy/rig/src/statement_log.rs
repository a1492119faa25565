//! The SQL statements in the log of a gateway that is set to log them.

use std::collections::BTreeMap;

/// The setting of a gateway that logs its statements, and its value.
pub(crate) const LOG_SETTING: (&str, &str) = ("ROOMCAST_LOG", "info,sqlx::query=debug");

/// Length of the time at the beginning of a line, up to the second: `2026-11-26T04:50:28`.
const SECOND: usize = 19;
/// Every line about a statement contains this.
const STATEMENT: &str = "db.statement=";
/// A statement that reads messages of a room contains this, and that which looks up earlier seqs of many rooms the second as well.
const OF_ONE_ROOM: &str = "ORDER BY m.seq";
const OF_MANY_ROOMS: &str = "WITH RECURSIVE";

/// How many statements are in a log; 0 if the gateway does not log them.
#[must_use]
pub fn count(log: &str) -> usize {
    log.lines().filter(|line| line.contains(STATEMENT)).count()
}

/// How often messages of a room were read in each second of the clock.
#[must_use]
pub fn history_reads_per_second(log: &str) -> BTreeMap<&str, usize> {
    let mut reads = BTreeMap::new();
    for line in log.lines().filter(|line| reads_a_room(line)) {
        *reads.entry(line.get(..SECOND).unwrap_or_default()).or_default() += 1;
    }
    reads
}

fn reads_a_room(line: &str) -> bool {
    line.contains(STATEMENT) && line.contains(OF_ONE_ROOM) && !line.contains(OF_MANY_ROOMS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_reads_are_counted_per_second() {
        let line =
            |second, statement| format!("2026-11-26T05:01:{second}.5Z DEBUG summary=\"\" db.statement=\"{statement}\"");
        let log = [
            line(
                16,
                "\\n  FROM messages m JOIN users u ON u.id = m.sender_id\\n WHERE m.seq > ?3 ORDER BY m.seq LIMIT ?5",
            ),
            line(16, "FROM messages m WHERE m.room_id = ? AND m.seq > ? ORDER BY m.seq DESC"),
            line(16, "SELECT room_id, text FROM messages WHERE id = ?"),
            line(17, "FROM messages m ORDER BY m.seq"),
            line(17, "WITH RECURSIVE bounds (room_id) AS (SELECT m.seq FROM messages m ORDER BY m.seq)"),
            "2026-11-26T05:01:17.5Z INFO a gateway is ready".to_owned(),
        ]
        .join("\n");
        let expected = [("2026-11-26T05:01:16", 2), ("2026-11-26T05:01:17", 1)].into();
        assert_eq!(history_reads_per_second(&log), expected);
        assert_eq!(count(&log), 5);
    }
}
