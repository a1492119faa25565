//! A fanout-worker process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::eventually::eventually;
use crate::failure::{Explain, Failure, Result};
use crate::programs::service_binary;
use crate::restartable_process::RestartableProcess;

/// The variable that names the step at which a worker built with the feature `crash-points` stops and waits.
const STEP_VARIABLE: &str = "CRASH_POINT";
/// The variable that names the file it writes when it gets there.
const STEP_FILE_VARIABLE: &str = "CRASH_POINT_FILE";
/// A clean stop finishes a batch; its own deadline is ten seconds.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// A fanout-worker on one database and one Redis.
pub struct Worker {
    /// The process itself.
    pub process: RestartableProcess,
    parked: PathBuf,
}

impl Worker {
    /// Describes a worker called `name` with its log under `directory`; `settings` are its environment.
    pub(crate) fn new(name: &str, directory: &Path, settings: &[(String, String)]) -> Result<Self> {
        let mut process = RestartableProcess::new(name, service_binary("fanout-worker")?, directory);
        for (variable, value) in settings {
            process.set(variable, value);
        }
        let parked = directory.join(format!("{name}.parked"));
        Ok(Self { process, parked })
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it (again). It is ready a moment later: see `Stack::wait_ready`.
    pub fn start(&mut self) -> Result<()> {
        self.process.start()
    }

    /// Stops it cleanly and starts it so that it parks for ever at `step`, as soon as it processes at least one message.
    pub async fn restart_to_park_at(&mut self, step: &str) -> Result<()> {
        let code = self.process.stop(STOP_WITHIN).await?;
        if code != 0 {
            return Err(Failure::new(format!("the worker stopped with exit code {code}")));
        }
        self.process.set(STEP_VARIABLE, step);
        self.process.set(STEP_FILE_VARIABLE, self.parked.display().to_string());
        self.process.start()
    }

    /// Waits until it has parked.
    pub async fn wait_parked(&mut self, within: Duration) -> Result<()> {
        let what = "the worker parks at its crash point (it must be built with the feature `crash-points`)";
        eventually(within, what, async || {
            self.process.check_runs()?;
            fs::read(&self.parked).explain(|| "it has not written its file".to_owned())?;
            Ok(())
        })
        .await
    }

    /// Kills the parked worker and starts one that does not park.
    pub fn replace_parked(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.unset(STEP_VARIABLE);
        self.process.unset(STEP_FILE_VARIABLE);
        fs::remove_file(&self.parked)?;
        self.process.start()
    }
}
