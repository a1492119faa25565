//! F11: copies come and go under load.

use std::time::Duration;

use tokio::time::sleep;

use crate::evidence::Outcome;
use crate::field::Field;
use crate::report::percentiles;
use crate::{Failure, Result};

/// How long each number of workers stays: as long as [`shown_around`](crate::report::shown_around) looks.
const STAYS: Duration = Duration::from_secs(1);
/// A clean stop; the services' own deadline is ten seconds.
const STOP_WITHIN: Duration = Duration::from_secs(12);
/// How long a gateway may take to be ready again.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Demanded of 99 posts in 100.
const POST_P99: Duration = Duration::from_millis(500);

/// One cycle: 1 → 4 → 2 workers, then every gateway is restarted, one after the other.
pub(super) async fn cycles(field: &mut Field, count: usize) -> Result<()> {
    for _ in 0..count {
        field.strike();
        set_workers(field, 1).await?;
        set_workers(field, 4).await?;
        set_workers(field, 2).await?;
        for gateway in &mut field.stack.gateways {
            stopped_cleanly(gateway.service.stop(STOP_WITHIN).await?)?;
            gateway.start()?;
            gateway.wait_ready(READY_WITHIN).await?;
        }
        // Everybody is back before the workers are looked at again.
        sleep(STAYS).await;
    }
    let times = field
        .traffic
        .book()
        .post_times_since(Duration::ZERO, |outcome| matches!(outcome, Outcome::Acknowledged(_)));
    if let Some((p50, p99)) = percentiles(times) {
        field.notes.push(format!("post p50 {} ms, p99 {} ms", p50.as_millis(), p99.as_millis()));
        field.demand(p99 <= POST_P99, || format!("99 of 100 posts took up to {p99:?}, over {POST_P99:?}"));
    }
    Ok(())
}

/// Lets the first `count` workers run and stops the others cleanly.
async fn set_workers(field: &mut Field, count: usize) -> Result<()> {
    for number in 0..field.stack.workers().count() {
        let runs = field.stack.worker_at(number).service.pid().is_ok();
        if runs == (number < count) {
            continue;
        }
        field.hand_over();
        let worker = field.stack.worker_at(number);
        if runs {
            stopped_cleanly(worker.service.stop(STOP_WITHIN).await?)?;
        } else {
            worker.start()?;
        }
        // One change after the other, so that each is measured.
        sleep(STAYS).await;
    }
    Ok(())
}

fn stopped_cleanly(code: i32) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("a clean stop ended with exit code {code}")))
    }
}
