//! Everybody comes back at once.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::field::Field;
use crate::stack::Builder;
use crate::{Ends, Result};

/// Time between two storms: long enough for everybody to be back.
const BETWEEN: Duration = Duration::from_secs(8);

/// What a line of a gateway's log begins with, up to the second: `2026-11-26T04:50:28`.
const SECOND: usize = 19;
/// What a line about a statement holds, and what no statement holds but one that reads messages of a room.
const STATEMENT: &str = "db.statement=";
const OF_ONE_ROOM: &str = "ORDER BY m.seq";

/// Lets the gateways log the statements they send.
pub(super) fn telling_statements(stack: Builder) -> Builder {
    stack.gateway("ROOMCAST_LOG", "info,sqlx::query=debug")
}

/// F12: all streams are cut at once and come back while posting goes on; every other time one gateway has to begin anew, and
/// remembers no message. No gateway may read history more often than once a second for each room.
pub(super) async fn storms(field: &mut Field, count: usize) -> Result<()> {
    let before: Vec<usize> = field.stack.gateways.iter().map(|gateway| gateway.service.log().len()).collect();
    for number in 0..count {
        sleep(BETWEEN).await;
        field.strike();
        if number % 2 == 0 {
            let victim = field.rng.random_range(0..field.stack.gateways.len());
            field.stack.gateways[victim].kill()?;
            field.stack.gateways[victim].start()?;
        }
        for link in field.stack.links.iter().filter(|link| matches!(link.ends, Ends::Door(_))) {
            link.proxy.cut();
        }
    }
    sleep(BETWEEN).await;
    let (mut statements, mut most) = (0, 0);
    for (gateway, before) in field.stack.gateways.iter().zip(before) {
        let log = gateway.service.log();
        let told = log.get(before..).unwrap_or_default();
        statements += told.lines().filter(|line| line.contains(STATEMENT)).count();
        most = reads_a_second(told).into_values().max().unwrap_or(0).max(most);
    }
    let rooms = field.traffic.rooms().len();
    field
        .notes
        .push(format!("at most {most} reads of history a second at one gateway, for {rooms} rooms"));
    field.demand(statements > 0, || "the gateways do not tell their statements".to_owned());
    field.demand(most <= rooms, || format!("{most} reads of history in a second, for {rooms} rooms"));
    Ok(())
}

/// How often history was read in each second, by a gateway's log.
fn reads_a_second(log: &str) -> HashMap<&str, usize> {
    let mut reads = HashMap::new();
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
        ];
        let expected = [("2026-11-26T05:01:16", 2), ("2026-11-26T05:01:17", 1)].into();
        assert_eq!(reads_a_second(&log.join("\n")), expected);
    }
}
