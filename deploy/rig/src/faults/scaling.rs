//! F11: workers and gateways come and go under load.

use std::time::Duration;

use tokio::time::sleep;

use crate::failure::{Failure, Result};
use crate::fault_run::FaultRun;
use crate::measures::{acknowledged_post_times, percentiles};

/// How long each number of workers stays: as long as [`shown_around`](crate::measures::shown_around) considers messages.
const STAYS: Duration = Duration::from_secs(1);
/// A clean stop; the services' own deadline is ten seconds.
const STOP_WITHIN: Duration = Duration::from_secs(12);
/// How long a gateway may take to be ready again.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Demanded of 99 posts in 100.
const POST_P99: Duration = Duration::from_millis(500);

/// One cycle: 1 → 4 → 2 workers, then every gateway is restarted, one after the other.
pub(super) async fn cycles(run: &mut FaultRun, count: usize) -> Result<()> {
    for _ in 0..count {
        run.record_injection();
        set_workers(run, 1).await?;
        set_workers(run, 4).await?;
        set_workers(run, 2).await?;
        for gateway in &mut run.stack.gateways {
            check_clean_stop(gateway.process.stop(STOP_WITHIN).await?)?;
            gateway.start()?;
            gateway.wait_ready(READY_WITHIN).await?;
        }
        // All clients are back before the next change of the workers is measured.
        sleep(STAYS).await;
    }
    let times = run.traffic.inspect(|evidence| acknowledged_post_times(evidence, Duration::ZERO));
    if let Some((p50, p99)) = percentiles(times) {
        run.notes.push(format!("post p50 {} ms, p99 {} ms", p50.as_millis(), p99.as_millis()));
        run.demand(p99 <= POST_P99, || format!("99 of 100 posts took up to {p99:?}, over {POST_P99:?}"));
    }
    Ok(())
}

/// Lets the first `count` workers run and stops the others cleanly.
async fn set_workers(run: &mut FaultRun, count: usize) -> Result<()> {
    for number in 0..run.stack.workers().count() {
        let runs = run.stack.worker_at(number).process.pid().is_ok();
        if runs == (number < count) {
            continue;
        }
        run.record_handover();
        let worker = run.stack.worker_at(number);
        if runs {
            check_clean_stop(worker.process.stop(STOP_WITHIN).await?)?;
        } else {
            worker.start()?;
        }
        // One change after the other, so that each is measured.
        sleep(STAYS).await;
    }
    Ok(())
}

fn check_clean_stop(code: i32) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("a clean stop ended with exit code {code}")))
    }
}
