//! F12: all streams are cut at once, and everybody reconnects.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::failure::Result;
use crate::fault_run::FaultRun;
use crate::stack::LinkEnds;
use crate::statement_log;

/// Time between two cuts: long enough for everybody to be back.
const BETWEEN: Duration = Duration::from_secs(8);

/// Cuts all streams at once while posting goes on; every other time one gateway is killed as well, and comes back without
/// any message in memory. No gateway may read history more often than once a second for each room.
pub(super) async fn cut_all_streams(run: &mut FaultRun, count: usize) -> Result<()> {
    let before: Vec<usize> = run.stack.gateways.iter().map(|gateway| gateway.process.log().len()).collect();
    for number in 0..count {
        sleep(BETWEEN).await;
        run.record_injection();
        if number % 2 == 0 {
            let victim = run.rng.random_range(0..run.stack.gateways.len());
            run.stack.gateways[victim].kill()?;
            run.stack.gateways[victim].start()?;
        }
        for link in run.stack.links.iter().filter(|link| matches!(link.ends, LinkEnds::ClientGateway(_))) {
            link.proxy.cut();
        }
    }
    sleep(BETWEEN).await;
    let (mut statements, mut most_reads) = (0, 0);
    for (gateway, before) in run.stack.gateways.iter().zip(before) {
        let log = gateway.process.log();
        let fresh = log.get(before..).unwrap_or_default();
        statements += statement_log::count(fresh);
        let reads = statement_log::history_reads_per_second(fresh);
        most_reads = reads.into_values().max().unwrap_or(0).max(most_reads);
    }
    let rooms = run.traffic.rooms().len();
    run.notes
        .push(format!("at most {most_reads} reads of history a second at one gateway, for {rooms} rooms"));
    run.demand(statements > 0, || "the gateways do not log their statements".to_owned());
    run.demand(most_reads <= rooms, || format!("{most_reads} reads of history in a second, for {rooms} rooms"));
    Ok(())
}
