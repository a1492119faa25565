//! Everybody comes back at once.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::field::Field;
use crate::stack::Builder;
use crate::{Ends, Result};

/// Time between two storms: long enough for everybody to be back.
const BETWEEN: Duration = Duration::from_secs(8);

/// What a line of a gateway's log begins with, up to the second: `2026-11-26T04:50:28`.
const SECOND: usize = 19;
/// What a statement that reads messages of a room holds, and none that reads anything else.
const READS_HISTORY: [&str; 2] = ["FROM messages m", "ORDER BY m.seq"];

/// Lets the gateways log the statements they send.
pub(super) fn telling_statements(stack: Builder) -> Builder {
    stack.gateway("ROOMCAST_LOG", "info,sqlx::query=debug")
}

/// F12: all streams are cut at once and come back while posting goes on. No gateway may read history more often than once a
/// second for each room.
pub(super) async fn storms(field: &mut Field, count: usize) -> Result<()> {
    let before: Vec<usize> = field.stack.gateways.iter().map(|gateway| gateway.service.log().len()).collect();
    for _ in 0..count {
        sleep(BETWEEN).await;
        field.strike();
        for link in field.stack.links.iter().filter(|link| matches!(link.ends, Ends::Door(_))) {
            link.proxy.cut();
        }
    }
    sleep(BETWEEN).await;
    let (mut statements, mut most) = (0, 0);
    for (gateway, before) in field.stack.gateways.iter().zip(before) {
        let log = gateway.service.log();
        let told = log.get(before..).unwrap_or_default();
        statements += told.lines().filter(|line| line.contains("sqlx::query")).count();
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
    // A statement goes over several lines: the time stands before it.
    let mut second = "";
    for line in log.lines() {
        if line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T') {
            second = line.get(..SECOND).unwrap_or_default();
        }
        if READS_HISTORY.iter().all(|part| line.contains(part)) {
            *reads.entry(second).or_default() += 1;
        }
    }
    reads
}
