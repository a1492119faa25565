//! Everybody comes back at once.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::field::Field;
use crate::{Ends, Result, statements};

/// Time between two storms: long enough for everybody to be back.
const BETWEEN: Duration = Duration::from_secs(8);

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
    let (mut told_at_all, mut most) = (0, 0);
    for (gateway, before) in field.stack.gateways.iter().zip(before) {
        let log = gateway.service.log();
        let told = log.get(before..).unwrap_or_default();
        told_at_all += statements::count(told);
        most = statements::reads_a_second(told).into_values().max().unwrap_or(0).max(most);
    }
    let rooms = field.traffic.rooms().len();
    field
        .notes
        .push(format!("at most {most} reads of history a second at one gateway, for {rooms} rooms"));
    field.demand(told_at_all > 0, || "the gateways do not tell their statements".to_owned());
    field.demand(most <= rooms, || format!("{most} reads of history in a second, for {rooms} rooms"));
    Ok(())
}
