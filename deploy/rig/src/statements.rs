//! What a gateway tells in its log of the statements it sends to SQL, once it is asked to.

use std::collections::BTreeMap;

/// The setting that asks it to, and what it is set to.
pub(crate) const TELLING: (&str, &str) = ("ROOMCAST_LOG", "info,sqlx::query=debug");

/// What a line of the log begins with, up to the second: `2026-11-26T04:50:28`.
const SECOND: usize = 19;
/// What a line about a statement holds, and what no statement holds but one that reads messages of a room.
const STATEMENT: &str = "db.statement=";
const OF_ONE_ROOM: &str = "ORDER BY m.seq";

/// How many statements a log tells of; 0 where the gateway was not asked to.
#[must_use]
pub fn count(log: &str) -> usize {
    log.lines().filter(|line| line.contains(STATEMENT)).count()
}

/// How often messages of a room were read in each second of the clock, by a log.
#[must_use]
pub fn reads_a_second(log: &str) -> BTreeMap<&str, usize> {
    let mut reads = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(STATEMENT) && line.contains(OF_ONE_ROOM)) {
        *reads.entry(line.get(..SECOND).unwrap_or_default()).or_default() += 1;
    }
    reads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_of_history_are_counted_by_the_second() {
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
            "2026-11-26T05:01:17.5Z INFO a gateway is ready".to_owned(),
        ]
        .join("\n");
        let expected = [("2026-11-26T05:01:16", 2), ("2026-11-26T05:01:17", 1)].into();
        assert_eq!(reads_a_second(&log), expected);
        assert_eq!(count(&log), 4);
    }
}
