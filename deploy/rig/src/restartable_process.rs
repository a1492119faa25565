//! A program with fixed arguments and environment that can be started, stopped, paused and started again.
//!
//! Signals go to the pid of the child alone. The child is killed and reaped when the value is dropped, also in a
//! panic, so that no process outlives its test.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::eventually;
use crate::failure::{Explain, Failure, Result};
use crate::memory::resident_kib;
use crate::programs::command;

/// Lines of a log that are shown when a test fails: enough for a start and an end.
const SHOWN_LINES: usize = 60;

/// A program and, while it runs, its process.
pub struct RestartableProcess {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    child: Option<Child>,
    handle: ProcessHandle,
}

/// Refers to the current process of a program, also after a restart.
#[derive(Clone)]
pub(crate) struct ProcessHandle {
    name: String,
    /// 0 while it does not run.
    pid: Arc<AtomicU32>,
}

impl ProcessHandle {
    /// The name of the program in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Memory that the process holds; `None` while it does not run.
    pub(crate) fn resident_kib(&self) -> Option<u64> {
        let kib = resident_kib(self.pid.load(Ordering::Relaxed)).ok()?;
        u64::try_from(kib).ok()
    }
}

impl RestartableProcess {
    /// Describes `program`, called `name` in messages, with its log under `directory`. It is not started yet.
    #[must_use]
    pub fn new(name: &str, program: PathBuf, directory: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            log: directory.join(format!("{name}.log")),
            child: None,
            handle: ProcessHandle {
                name: name.to_owned(),
                pid: Arc::default(),
            },
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable from the next start on. Nothing but `PATH` is inherited.
    pub fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.environment.insert(variable.to_owned(), value.into());
    }

    /// Removes an environment variable from the next start on.
    pub fn unset(&mut self, variable: &str) {
        self.environment.remove(variable);
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id; a failure when it does not run.
    pub fn pid(&self) -> Result<u32> {
        let child = self.child.as_ref();
        child.map(Child::id).ok_or_else(|| Failure::new(format!("{} does not run", self.name)))
    }

    /// A handle of its current process that stays valid over restarts.
    pub(crate) fn handle(&self) -> ProcessHandle {
        self.handle.clone()
    }

    /// Starts the program; its output is appended to the log.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Err(Failure::new(format!("{} runs already", self.name)));
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = command(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .explain(|| format!("cannot start {}", self.program.display()))?;
        self.handle.pid.store(child.id(), Ordering::Relaxed);
        self.child = Some(child);
        Ok(())
    }

    /// Starts the program if it does not run, as a supervisor does; one that was paused goes on.
    pub fn keep_running(&mut self) -> Result<()> {
        if self.child.is_none() || self.check_runs().is_err() {
            self.start()
        } else {
            self.resume()
        }
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().ok_or_else(|| Failure::new(format!("{} does not run", self.name)))?;
        self.handle.pid.store(0, Ordering::Relaxed);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, without waiting for the end.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGHUP, as a terminal sends it when it is closed.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// SIGSTOP: the process does nothing until [`RestartableProcess::resume`], as on a machine that hangs.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits for the end of the process and returns its exit code; a death by signal is a failure.
    pub async fn exit_code(&mut self, within: Duration) -> Result<i32> {
        let what = format!("{} ends", self.name);
        let status = eventually(within, &what, async || {
            let child = self.child.as_mut().ok_or_else(|| Failure::new("it does not run"))?;
            child.try_wait()?.ok_or_else(|| Failure::new("it still runs"))
        })
        .await?;
        self.child = None;
        status.code().ok_or_else(|| Failure::new(format!("{} ended by a signal: {status}", self.name)))
    }

    /// SIGTERM, then the exit code.
    pub async fn stop(&mut self, within: Duration) -> Result<i32> {
        self.terminate()?;
        self.exit_code(within).await
    }

    /// Fails with the end of the log when the process has ended by itself.
    pub fn check_runs(&mut self) -> Result<()> {
        let Some(child) = self.child.as_mut() else {
            return Err(Failure::new(format!("{} does not run", self.name)));
        };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                Err(Failure::new(format!("{} ended with {status}:\n{}", self.name, self.log_end())))
            }
        }
    }

    /// Its whole log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|raw| String::from_utf8_lossy(&raw).into_owned()).unwrap_or_default()
    }

    /// The file of the log.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let raw = i32::try_from(self.pid()?)?;
        let pid = Pid::from_raw(raw).ok_or_else(|| Failure::new("0 is not a process id"))?;
        kill_process(pid, signal).explain(|| format!("cannot signal {}", self.name))
    }
}

impl Drop for RestartableProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- end of the log of {} ---\n{}", self.name, self.log_end());
        }
    }
}
