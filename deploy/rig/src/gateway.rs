//! A gateway process.

use std::path::Path;
use std::time::Duration;

use crate::api_client::ApiClient;
use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::ports::free_port;
use crate::programs::service_binary;
use crate::restartable_process::RestartableProcess;
use crate::sockets::sockets_on_port;

/// A gateway on one port.
pub struct Gateway {
    /// The process itself.
    pub process: RestartableProcess,
    port: u16,
}

impl Gateway {
    /// Describes a gateway called `name` with its log under `directory`; `settings` are its environment.
    pub(crate) fn new(name: &str, directory: &Path, settings: &[(String, String)]) -> Result<Self> {
        let port = free_port()?;
        let mut process = RestartableProcess::new(name, service_binary("gateway")?, directory);
        process.set("GATEWAY_LISTEN", format!("127.0.0.1:{port}"));
        for (variable, value) in settings {
            process.set(variable, value);
        }
        Ok(Self { process, port })
    }

    /// The address of its API, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it (again) on the same port.
    pub fn start(&mut self) -> Result<()> {
        self.process.start()
    }

    /// Client connections that it still holds.
    pub fn connections(&self) -> Result<usize> {
        sockets_on_port(self.process.pid()?, self.port)
    }

    /// Waits until it is ready and sees a worker alive.
    pub async fn wait_ready(&mut self, within: Duration) -> Result<()> {
        let client = ApiClient::at(&self.url())?;
        let what = format!("{} is ready with a worker alive", self.process.name());
        eventually(within, &what, async || {
            self.process.check_runs()?;
            let response = client.get("/health/ready").await?;
            if response.status() == 200 && response.json()?["worker"] == "alive" {
                Ok(())
            } else {
                Err(Failure::new(response.to_string()))
            }
        })
        .await
    }
}
