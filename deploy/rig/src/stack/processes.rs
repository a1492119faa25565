//! All processes of one installation, in a directory of their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use tempfile::TempDir;

use super::links::{Link, LinkEnds};
use super::redis_group::RedisGroup;
use crate::accept_log::AcceptLog;
use crate::api_client::ApiClient;
use crate::database::Database;
use crate::disk::cut_power;
use crate::disk::{Disk, DiskCondition};
use crate::eventually::eventually;
use crate::failure::{Explain as _, Result};
use crate::gateway::Gateway;
use crate::postgres_server::PostgresServer;
use crate::process::Process;
use crate::redis_server::RedisServer;
use crate::restartable_process::RestartableProcess;
use crate::worker::Worker;

/// The name of the database in a Postgres.
pub(super) const DATABASE: &str = "roomcast";

/// How long the services may take until they are ready, also on a machine that is busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Longest time a gateway takes to stop; its own deadline is ten seconds.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// How long one wait for the gateways may take before the processes are checked again.
const READY_CHECK: Duration = Duration::from_secs(4);

/// A Redis, and one or more workers and gateways on one database.
///
/// Dropping it ends every process; after a panic it shows their logs.
pub struct Stack {
    /// The fields are in the order in which they are dropped: users of a server before the server.
    pub gateways: Vec<Gateway>,
    /// The first worker.
    pub worker: Worker,
    /// Further workers.
    pub standbys: Vec<Worker>,
    /// The Redis they share; it is not used if there is a `redis_group`.
    pub redis: RedisServer,
    /// The several Redis servers they share in its place.
    pub redis_group: Option<RedisGroup>,
    /// The Postgres they share, if they do not share an SQLite file.
    pub postgres: Option<PostgresServer>,
    /// The disk of Redis, if the stack was built with disks that can be disturbed.
    pub redis_disk: Option<Disk>,
    /// The disk that all workers see.
    pub worker_disk: Option<Disk>,
    /// The proxied links, if the stack was built with them.
    pub links: Vec<Link>,
    pub(super) database_url: String,
    pub(super) worker_settings: Vec<(String, String)>,
    pub(super) directory: TempDir,
}

/// The database in which the installation keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// An SQLite file.
    #[default]
    Sqlite,
    /// A Postgres server of its own.
    Postgres,
}

impl Stack {
    /// A client that is not signed in, at the first gateway.
    pub fn client(&self) -> Result<ApiClient> {
        ApiClient::at(&self.gateways[0].url())
    }

    /// The URLs at which clients reach the gateways: through the proxied links if there are any.
    #[must_use]
    pub fn gateway_urls(&self) -> Vec<String> {
        let url = |number: usize, gateway: &Gateway| match self.link(LinkEnds::ClientGateway(number)) {
            Some(link) => format!("http://127.0.0.1:{}", link.proxy.port()),
            None => gateway.url(),
        };
        self.gateways.iter().enumerate().map(|(number, gateway)| url(number, gateway)).collect()
    }

    /// The link between `ends`; `None` without proxies.
    #[must_use]
    pub fn link(&self, ends: LinkEnds) -> Option<&Link> {
        self.links.iter().find(|link| link.ends == ends)
    }

    /// All workers, the first one first.
    pub fn workers(&mut self) -> impl Iterator<Item = &mut Worker> {
        std::iter::once(&mut self.worker).chain(&mut self.standbys)
    }

    /// Worker `number`, counted from 0 and modulo the number of workers.
    pub fn worker_at(&mut self, number: usize) -> &mut Worker {
        match number % (1 + self.standbys.len()) {
            0 => &mut self.worker,
            further => &mut self.standbys[further - 1],
        }
    }

    /// The processes of the installation whose use of the machine is measured; the gateways come first.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let postgres = self.postgres.as_ref().map(|postgres| &postgres.process);
        let services = self.gateways.iter().map(|gateway| &gateway.process);
        let services = services.chain([&self.worker.process]).chain(self.standbys.iter().map(|worker| &worker.process));
        let services = services.chain([&self.redis.process]).chain(postgres);
        let process = |process: &RestartableProcess| {
            let (name, pid) = (process.name().to_owned(), process.pid()?);
            Ok(Process { name, pid })
        };
        services.map(process).collect()
    }

    /// The directory that holds everything: data, keys, logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The files of the database, if it is one of SQLite: the file itself, its log, and what else begins with its name.
    pub fn database_files(&self) -> Result<Vec<PathBuf>> {
        let Some(path) = self.database_url().strip_prefix("sqlite://").map(Path::new) else {
            return Ok(Vec::new());
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path.parent().unwrap_or(path))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&name) {
                files.push(entry.path());
            }
        }
        Ok(files)
    }

    /// The keys that tokens are signed with, one a line.
    #[must_use]
    pub fn signing_key_file(&self) -> PathBuf {
        signing_key_file(self.directory.path())
    }

    /// Opens the database, past all services and links.
    pub async fn database(&self) -> Result<Database> {
        Database::open(&self.database_url).await
    }

    /// The key or channel in Redis that this installation has for `rest`, such as `control`.
    pub async fn redis_key(&self, rest: &str) -> Result<String> {
        let mut database = self.database().await?;
        let installation = database.installation().await?;
        database.close().await?;
        Ok(format!("roomcast:{installation}:{rest}"))
    }

    /// The accept log of a partition.
    pub async fn accept_stream(&self, partition: impl std::fmt::Display) -> Result<String> {
        self.redis_key(&format!("{{{partition}}}:in")).await
    }

    /// The URL of the database, past all links.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Describes one more worker of this installation, called `name`. It is not started yet.
    pub fn another_worker(&self, name: &str) -> Result<Worker> {
        Worker::new(name, self.directory.path(), &self.worker_settings)
    }

    /// The accept log, past all links.
    pub(crate) fn accept_log(&self) -> AcceptLog {
        AcceptLog::new(self.redis_group.as_ref().map_or_else(|| vec![self.redis.url()], RedisGroup::servers))
    }

    /// Kills Redis and removes from its files what was not synced to disk, as a power cut does; returns how many bytes that
    /// were. The stack must have been built with disks.
    pub fn cut_power_of_redis(&mut self) -> Result<u64> {
        self.redis.kill()?;
        cut_power(&self.directory.path().join("redis/appendonlydir"), "appendonly.aof")
    }

    /// Clears the faults of all links and disks, starts what does not run, also when it ends again meanwhile, and waits until
    /// everything is ready.
    pub async fn recover(&mut self) -> Result<()> {
        for link in &self.links {
            link.proxy.clear_faults();
        }
        for disk in [&self.redis_disk, &self.worker_disk].into_iter().flatten() {
            disk.set(DiskCondition::default())?;
        }
        if !self.redis.runs() {
            self.redis.restart().await?;
        }
        if let Some(redis_group) = &mut self.redis_group {
            redis_group.recover().await?;
        }
        if let Some(postgres) = &mut self.postgres
            && !postgres.runs()
        {
            postgres.restart().await?;
        }
        eventually(READY_WITHIN, "everything runs again", async || {
            for worker in self.workers() {
                worker.process.keep_running()?;
            }
            for gateway in &mut self.gateways {
                gateway.process.keep_running()?;
            }
            try_join_all(self.gateways.iter_mut().map(|gateway| gateway.wait_ready(READY_CHECK)))
                .await
                .map(drop)
        })
        .await
    }

    /// Restarts all gateways: hashing passwords leaves memory behind, which the allocator gives back only later.
    pub async fn renew_gateways(&mut self) -> Result<()> {
        for gateway in &mut self.gateways {
            gateway.process.stop(STOP_WITHIN).await?;
            gateway.start()?;
        }
        self.wait_ready().await
    }

    /// Waits until every gateway is ready and sees a worker alive.
    pub async fn wait_ready(&mut self) -> Result<()> {
        self.worker.process.check_runs()?;
        let ready = try_join_all(self.gateways.iter_mut().map(|gateway| gateway.wait_ready(READY_WITHIN))).await;
        // If the gateway sees no worker, the log of the worker says why.
        ready.explain(|| self.worker.process.log_end())?;
        Ok(())
    }
}

pub(super) fn signing_key_file(directory: &Path) -> PathBuf {
    directory.join("signing.key")
}
