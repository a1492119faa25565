//! One redis-server of several that belong together, with the settings they need.

use std::fs;
use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};

use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::ports::free_port;
use crate::programs::system_program;
use crate::redis_connection::patient_connection;
use crate::restartable_process::ProcessHandle;
use crate::restartable_process::RestartableProcess;

/// How long a start may take; it replays the append-only file.
const START_WITHIN: Duration = Duration::from_secs(15);

/// A redis-server on a port of its own, with its files in a directory of its own.
pub struct RedisNode {
    process: RestartableProcess,
    port: u16,
}

impl RedisNode {
    /// Starts a durable server called `name`, with further `arguments`, and waits until it answers.
    pub(crate) async fn start(name: &str, directory: &Path, arguments: &[&str]) -> Result<Self> {
        let data = directory.join(name);
        fs::create_dir_all(&data)?;
        let (port, data) = (free_port()?, data.display().to_string());
        let port_text = port.to_string();
        let durable = [
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--maxmemory-policy",
            "noeviction",
            "--save",
            "",
        ];
        let location = ["--bind", "127.0.0.1", "--port", &port_text, "--dir", &data];
        let mut process = RestartableProcess::new(name, system_program("redis-server", "redis-server")?, directory);
        for argument in durable.iter().chain(&location).chain(arguments) {
            process = process.argument(*argument);
        }
        process.start()?;
        let mut node = Self { process, port };
        node.wait_ready().await?;
        Ok(node)
    }

    /// Starts a sentinel whose settings are `lines` beside its port and directory.
    pub(crate) async fn start_sentinel(name: &str, directory: &Path, lines: &str) -> Result<Self> {
        let data = directory.join(name);
        fs::create_dir_all(&data)?;
        let (port, file) = (free_port()?, data.join("sentinel.conf"));
        fs::write(&file, format!("bind 127.0.0.1\nport {port}\ndir {}\n{lines}", data.display()))?;
        let process = RestartableProcess::new(name, system_program("redis-server", "redis-server")?, directory)
            .argument(file.display().to_string())
            .argument("--sentinel");
        let mut node = Self { process, port };
        node.process.start()?;
        node.wait_ready().await?;
        Ok(node)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as URLs name it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A handle of its current process that stays valid over restarts.
    pub(crate) fn process(&self) -> ProcessHandle {
        self.process.handle()
    }

    /// True until it is killed.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.pid().is_ok()
    }

    /// SIGKILL, as when the machine loses power (its files survive).
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same port and data, and waits until it answers.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.start()?;
        self.wait_ready().await
    }

    /// Runs a command on it and returns the reply.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        Ok(command.query_async(&mut self.connect().await?).await?)
    }

    /// A section of INFO.
    pub async fn info(&self, section: &str) -> Result<String> {
        self.run(redis::cmd("INFO").arg(section)).await
    }

    async fn connect(&self) -> Result<MultiplexedConnection> {
        Ok(patient_connection(&format!("redis://{}", self.address())).await?)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        eventually(START_WITHIN, "Redis answers", async || {
            self.process.check_runs()?;
            let reply: String = self.run(&redis::cmd("PING")).await?;
            if reply == "PONG" {
                Ok(())
            } else {
                Err(Failure::new(reply))
            }
        })
        .await
    }
}
