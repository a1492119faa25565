//! All processes of one installation, in a directory of their own.

mod backup;
mod builder;
mod links;
mod spread;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use tempfile::TempDir;

pub use self::backup::Backup;
pub use self::builder::Builder;
pub use self::links::{Ends, Link};
pub use self::spread::{Spread, Topology};
use crate::accept_log::AcceptLog;
use crate::disk::cut_power;
use crate::{
    App, Database, Disk, Explain as _, Gateway, Health, PostgresServer, Process, RedisServer, Result, Service, Worker,
    eventually,
};

/// How long the services may take until they are ready, also on a machine that is busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Longest time a gateway takes to stop; its own deadline is ten seconds.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// How long a look at a gateway may take before the processes are looked after again.
const GLANCE: Duration = Duration::from_secs(4);

/// A Redis, and one or more workers and gateways on one database.
///
/// Dropping it ends every process; after a panic it shows their logs.
pub struct Stack {
    /// In the order in which they are dropped: those who use something go before it.
    pub gateways: Vec<Gateway>,
    /// The first worker.
    pub worker: Worker,
    /// Further workers.
    pub standbys: Vec<Worker>,
    /// The Redis they share; nobody uses it where there is a `spread`.
    pub redis: RedisServer,
    /// The set of several Redis servers they share instead.
    pub spread: Option<Spread>,
    /// The Postgres they share, if they do not share an SQLite file.
    pub postgres: Option<PostgresServer>,
    /// The disk of Redis, if the stack was built with disks that can be made ill.
    pub redis_disk: Option<Disk>,
    /// The disk that all workers see.
    pub worker_disk: Option<Disk>,
    /// The proxied links, if the stack was built with them.
    pub links: Vec<Link>,
    database_url: String,
    worker_settings: Vec<(String, String)>,
    directory: TempDir,
}

/// What the installation keeps its messages in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// A file.
    #[default]
    Sqlite,
    /// A server of its own.
    Postgres,
}

impl Stack {
    /// Starts one of each with the rig's settings.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Begins a stack with other settings.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Nobody in particular, at the first gateway.
    pub fn app(&self) -> Result<App> {
        App::at(&self.gateways[0].url())
    }

    /// Where clients find the gateways: through the links if there are some.
    #[must_use]
    pub fn doors(&self) -> Vec<String> {
        let door = |number: usize, gateway: &Gateway| match self.link(Ends::Door(number)) {
            Some(link) => format!("http://127.0.0.1:{}", link.proxy.port()),
            None => gateway.url(),
        };
        self.gateways.iter().enumerate().map(|(number, gateway)| door(number, gateway)).collect()
    }

    /// The link between `ends`; `None` without proxies.
    #[must_use]
    pub fn link(&self, ends: Ends) -> Option<&Link> {
        self.links.iter().find(|link| link.ends == ends)
    }

    /// All workers, the first one first.
    pub fn workers(&mut self) -> impl Iterator<Item = &mut Worker> {
        std::iter::once(&mut self.worker).chain(&mut self.standbys)
    }

    /// Worker `number`, counted from 0 and round.
    pub fn worker_at(&mut self, number: usize) -> &mut Worker {
        match number % (1 + self.standbys.len()) {
            0 => &mut self.worker,
            further => &mut self.standbys[further - 1],
        }
    }

    /// The processes of the installation that do the work, for a look at what they take; the gateways first.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let postgres = self.postgres.as_ref().map(|postgres| &postgres.service);
        let services = self.gateways.iter().map(|gateway| &gateway.service);
        let services = services.chain([&self.worker.service]).chain(self.standbys.iter().map(|worker| &worker.service));
        let services = services.chain([&self.redis.service]).chain(postgres);
        let process = |service: &Service| {
            let (name, pid) = (service.name().to_owned(), service.pid()?);
            Ok(Process { name, pid })
        };
        services.map(process).collect()
    }

    /// The directory that holds everything: data, keys, logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The keys that tokens are signed with, one a line.
    #[must_use]
    pub fn signing_key_file(&self) -> PathBuf {
        signing_key_file(self.directory.path())
    }

    /// Opens the database for a look from outside.
    pub async fn database(&self) -> Result<Database> {
        Database::open(&self.database_url).await
    }

    /// The name in Redis that the installation gives to `rest`, such as `control`.
    pub async fn name(&self, rest: &str) -> Result<String> {
        let mut database = self.database().await?;
        let installation = database.installation().await?;
        database.close().await?;
        Ok(format!("roomcast:{installation}:{rest}"))
    }

    /// The accept log of a partition.
    pub async fn accept_stream(&self, partition: impl std::fmt::Display) -> Result<String> {
        self.name(&format!("{{{partition}}}:in")).await
    }

    /// Where the database is, past all links.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Describes one more worker of this installation, called `name`. It is not started yet.
    pub fn another_worker(&self, name: &str) -> Result<Worker> {
        Worker::new(name, self.directory.path(), &self.worker_settings)
    }

    /// The accept log, for a look past all links.
    pub(crate) fn accept_log(&self) -> AcceptLog {
        AcceptLog::new(self.spread.as_ref().map_or_else(|| vec![self.redis.url()], Spread::servers))
    }

    /// Kills Redis and takes from its files what was not on disk for certain, as a power cut does; returns how many bytes
    /// that were. Needs a stack with disks.
    pub fn cut_power_of_redis(&mut self) -> Result<u64> {
        self.redis.kill()?;
        cut_power(&self.directory.path().join("redis/appendonlydir"), "appendonly.aof")
    }

    /// Clears all links and disks, starts what does not run, also when it ends again meanwhile, and waits until everything is ready.
    pub async fn mend(&mut self) -> Result<()> {
        for link in &self.links {
            link.proxy.heal();
        }
        for disk in [&self.redis_disk, &self.worker_disk].into_iter().flatten() {
            disk.set(Health::default())?;
        }
        if !self.redis.runs() {
            self.redis.restart().await?;
        }
        if let Some(spread) = &mut self.spread {
            spread.mend().await?;
        }
        if let Some(postgres) = &mut self.postgres
            && !postgres.runs()
        {
            postgres.restart().await?;
        }
        eventually(READY_WITHIN, "everything runs again", async || {
            for worker in self.workers() {
                worker.service.keep_running()?;
            }
            for gateway in &mut self.gateways {
                gateway.service.keep_running()?;
            }
            try_join_all(self.gateways.iter_mut().map(|gateway| gateway.wait_ready(GLANCE))).await.map(drop)
        })
        .await
    }

    /// Puts fresh processes in the place of all gateways: hashing passwords leaves memory behind, which is given back some
    /// time.
    pub async fn renew_gateways(&mut self) -> Result<()> {
        for gateway in &mut self.gateways {
            gateway.service.stop(STOP_WITHIN).await?;
            gateway.start()?;
        }
        self.wait_ready().await
    }

    /// Waits until every gateway is ready and sees a worker alive.
    pub async fn wait_ready(&mut self) -> Result<()> {
        self.worker.service.check_runs()?;
        let ready = try_join_all(self.gateways.iter_mut().map(|gateway| gateway.wait_ready(READY_WITHIN))).await;
        // A worker that is not there cannot be seen by the gateway: its own log says why.
        ready.explain(|| self.worker.service.log_end())?;
        Ok(())
    }
}

fn signing_key_file(directory: &Path) -> PathBuf {
    directory.join("signing.key")
}
