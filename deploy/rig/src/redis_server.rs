//! A private redis-server with the durable settings that the services demand.

use std::fs;
use std::path::Path;
use std::time::Duration;

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;

use crate::eventually::eventually;
use crate::failure::{Failure, Result};
use crate::ports::free_port;
use crate::programs::system_program;
use crate::redis_connection::patient_connection;
use crate::restartable_process::RestartableProcess;

/// How long a start may take; it replays the append-only file.
const START_WITHIN: Duration = Duration::from_secs(15);

/// A redis-server with its data in a directory of its own.
pub struct RedisServer {
    /// The process itself.
    pub process: RestartableProcess,
    port: u16,
}

impl RedisServer {
    /// Starts a server with its files under `directory` and waits until it answers.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, &[]).await
    }

    /// The same with `environment` for its process.
    pub(crate) async fn start_with(directory: &Path, environment: &[(String, String)]) -> Result<Self> {
        let data = directory.join("redis");
        fs::create_dir_all(&data)?;
        let port = free_port()?;
        let mut process = RestartableProcess::new("redis", system_program("redis-server", "redis-server")?, directory);
        let data = data.display().to_string();
        let port_text = port.to_string();
        let settings = [
            ["--port", &port_text],
            ["--bind", "127.0.0.1"],
            ["--dir", &data],
            ["--appendonly", "yes"],
            ["--appendfsync", "always"],
            ["--maxmemory-policy", "noeviction"],
            ["--save", ""],
        ];
        for argument in settings.into_iter().flatten() {
            process = process.argument(argument);
        }
        for (variable, value) in environment {
            process.set(variable, value);
        }
        process.start()?;
        let mut server = Self { process, port };
        server.wait_ready().await?;
        Ok(server)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// True until it is killed.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.pid().is_ok()
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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

    /// A connection for inspecting its data.
    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        Ok(patient_connection(&self.url()).await?)
    }

    /// How many entries wait in the accept logs of all partitions.
    pub async fn waiting_entries(&self) -> Result<u64> {
        let mut connection = self.connect().await?;
        let keys = Self::accept_streams(&mut connection).await?;
        let mut total = 0;
        for key in keys {
            let length: u64 = redis::cmd("XLEN").arg(&key).query_async(&mut connection).await?;
            total += length;
        }
        Ok(total)
    }

    /// How many fields of entries in the accept logs hold `text`.
    pub async fn entries_with(&self, text: &str) -> Result<usize> {
        let mut connection = self.connect().await?;
        let mut found = 0;
        for stream in Self::accept_streams(&mut connection).await? {
            let entries: Vec<(String, Vec<Vec<u8>>)> = connection.xrange_all(&stream).await?;
            let fields = entries.iter().flat_map(|(_, fields)| fields);
            found += fields.filter(|field| String::from_utf8_lossy(field).contains(text)).count();
        }
        Ok(found)
    }

    /// The names of the accept logs of all partitions.
    pub(crate) async fn accept_streams(connection: &mut MultiplexedConnection) -> Result<Vec<String>> {
        Ok(redis::cmd("KEYS").arg("roomcast:*:{*}:in").query_async(connection).await?)
    }

    /// Appends an entry that no gateway would write.
    pub async fn append_garbage(&self, stream: &str, garbage: &[u8]) -> Result<()> {
        let mut connection = self.connect().await?;
        redis::cmd("XADD")
            .arg(stream)
            .arg("*")
            .arg(garbage)
            .arg(garbage)
            .exec_async(&mut connection)
            .await?;
        Ok(())
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let url = self.url();
        eventually(START_WITHIN, "Redis answers", async || {
            self.process.check_runs()?;
            let mut connection = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
            // While it loads its file it replies with an error.
            let reply: String = redis::cmd("PING").query_async(&mut connection).await?;
            if reply == "PONG" {
                Ok(())
            } else {
                Err(Failure::new(reply))
            }
        })
        .await
    }

    /// Gives every waiting entry an id from long ago and forgets the ids that were given out, as if an older server had
    /// replaced this one.
    pub async fn rewrite_ids(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        let streams: Vec<String> = redis::cmd("KEYS").arg("roomcast:*:{*}:in").query_async(&mut connection).await?;
        for stream in streams {
            let entries: Vec<(String, Vec<Vec<u8>>)> = connection.xrange_all(&stream).await?;
            let _existed: bool = connection.del(&stream).await?;
            for (number, (_, fields)) in entries.into_iter().enumerate() {
                let id = format!("{}-0", number + 1);
                let _id: String =
                    redis::cmd("XADD").arg(&stream).arg(id).arg(fields).query_async(&mut connection).await?;
            }
        }
        Ok(())
    }

    /// Memory it uses for data, in KiB.
    pub async fn used_memory_kib(&self) -> Result<u64> {
        let mut connection = self.connect().await?;
        let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut connection).await?;
        let used: Option<u64> = info.get("used_memory");
        Ok(used.ok_or_else(|| Failure::new("Redis does not say how much memory it uses"))? / 1024)
    }

    /// Changes a setting of the running server.
    pub async fn configure(&self, name: &str, value: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        let _ok: String = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(&mut connection).await?;
        Ok(())
    }
}
