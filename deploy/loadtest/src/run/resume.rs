//! Streams that are disconnected, miss messages, and reconnect all at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rig::{Failure, Result};

use super::{CATCH_UP_WITHIN, Load, Run};
use crate::results::history_reads::StatementLogs;

impl Run<'_> {
    /// Disconnects all streams, posts the messages that each is to miss, restarts the gateways if the plan says so, and lets the
    /// streams reconnect.
    pub(super) async fn resume(&mut self, missed: u64) -> Result<Load> {
        let control = Arc::clone(&self.workers.control);
        control.disconnect.store(true, Ordering::Relaxed);
        let are_disconnected = || Ok(self.workers.reader_counters().open == 0);
        self.until(CATCH_UP_WITHIN, "all streams are disconnected", are_disconnected).await?;
        self.post("posting", self.plan.missed_per_room(missed)).await?;
        if self.plan.restarts {
            self.restart_gateways().await?;
        }
        // A client that reconnects later misses messages that are stored, not ones that were accepted a moment ago.
        self.steady_usage().await;
        let mut load = Load::default();
        let logs = StatementLogs::mark(&self.workers.target.logs)?;
        control.reconnect_at_us.store(self.workers.clock.micros(), Ordering::Relaxed);
        control.disconnect.store(false, Ordering::Relaxed);
        self.catch_up(&mut load).await;
        load.reads = logs.reads_since_mark(self.plan.rooms)?;
        Ok(load)
    }

    /// Restarts the gateways: they keep no messages.
    async fn restart_gateways(&mut self) -> Result<()> {
        let without = || Failure::new("only gateways of an installation of this run can be restarted");
        let stack = self.stack.as_mut().ok_or_else(without)?;
        self.progress.step("restarting", 1);
        stack.renew_gateways().await?;
        self.processes = stack.processes()?;
        Ok(())
    }
}
