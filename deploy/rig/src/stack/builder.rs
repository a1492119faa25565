//! Decides what a stack consists of, and starts it.

use tempfile::TempDir;

use super::processes::{Backend, DATABASE, Stack};
use super::redis_group::{RedisGroup, RedisMode};
use super::service_starter::{ServiceStarter, Settings};
use crate::disk::Disk;
use crate::failure::{Failure, Result};
use crate::postgres_server::PostgresServer;
use crate::redis_server::RedisServer;
use crate::statement_log;

/// How often a client may do something, and how much it may own.
const RATES: [&str; 5] = [
    "POST_PER_S",
    "REGISTER_PER_ADDRESS",
    "ROOMS_PER_USER",
    "CREATE_ROOM_PER_HOUR",
    "JOIN_PER_MIN",
];

/// The other limits of clients.
const OTHER_LIMITS: [&str; 6] = [
    "LOGIN_PER_ACCOUNT",
    "LOGIN_PER_ADDRESS",
    "STREAMS_PER_USER",
    "STREAMS_PER_ADDRESS",
    "CONNECTIONS_PER_ADDRESS",
    "REPLAY_KIB_PER_S",
];

/// The settings of a stack that is about to be started.
pub struct StackBuilder {
    gateways: usize,
    workers: usize,
    has_links: bool,
    has_disks: bool,
    backend: Backend,
    redis_mode: RedisMode,
    gateway_settings: Settings,
    worker_settings: Settings,
}

impl Stack {
    /// Starts one of each with the rig's settings.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Begins a stack with other settings.
    #[must_use]
    pub fn builder() -> StackBuilder {
        StackBuilder::new()
    }
}

impl StackBuilder {
    fn new() -> Self {
        Self {
            gateways: 1,
            workers: 1,
            has_links: false,
            has_disks: false,
            backend: Backend::default(),
            redis_mode: RedisMode::default(),
            gateway_settings: Vec::new(),
            worker_settings: Vec::new(),
        }
    }

    /// How many gateways; 1 unless said otherwise.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// How many workers; 1 unless said otherwise.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The database; an SQLite file unless said otherwise.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// How Redis is deployed; one server unless said otherwise. Several servers cannot be combined with links.
    #[must_use]
    pub fn redis_mode(mut self, mode: RedisMode) -> Self {
        self.redis_mode = mode;
        self
    }

    /// Puts a proxy into every link: clients to gateways, and gateways and workers to Redis and Postgres.
    #[must_use]
    pub fn links(mut self) -> Self {
        self.has_links = true;
        self
    }

    /// Sets an environment variable of every gateway.
    #[must_use]
    pub fn gateway(mut self, variable: &str, value: &str) -> Self {
        self.gateway_settings.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Lets a client post, create, join and leave as fast as it can. A limit that is set by name stays.
    #[must_use]
    pub fn without_rates(self) -> Self {
        self.lift(&RATES)
    }

    /// Lifts all limits of clients, for loads in which one user stands for many. A limit that is set by name stays.
    #[must_use]
    pub fn without_limits(self) -> Self {
        self.lift(&RATES).lift(&OTHER_LIMITS)
    }

    fn lift(mut self, limits: &[&str]) -> Self {
        let lifted = limits.iter().map(|limit| ((*limit).to_owned(), "0".to_owned()));
        self.gateway_settings.splice(0..0, lifted);
        self
    }

    /// Makes the gateways log the SQL statements they send.
    #[must_use]
    pub fn logging_statements(self) -> Self {
        let (setting, value) = statement_log::LOG_SETTING;
        self.gateway(setting, value)
    }

    /// Sets an environment variable of every worker.
    #[must_use]
    pub fn worker(mut self, variable: &str, value: &str) -> Self {
        self.worker_settings.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Gives Redis and the workers disks that can be made slow, failing or full.
    #[must_use]
    pub fn disks(mut self) -> Self {
        self.has_disks = true;
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> Result<Stack> {
        if self.gateways == 0 || self.workers == 0 {
            return Err(Failure::new("a stack has at least one gateway and one worker"));
        }
        let directory = TempDir::with_prefix("roomcast-")?;
        let path = directory.path();
        let disk = |of: &str| self.has_disks.then(|| Disk::new(path, of)).transpose();
        let (redis_disk, worker_disk) = (disk("redis")?, disk("workers")?);
        let redis = RedisServer::start_with(path, &settings_of(redis_disk.as_ref())).await?;
        let postgres = match self.backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(PostgresServer::start(path).await?),
        };
        let database_url = match &postgres {
            None => format!("sqlite://{}", path.join("roomcast.db").display()),
            Some(postgres) => postgres.create_database(DATABASE).await?,
        };
        let redis_group = RedisGroup::start(self.redis_mode, path).await?;
        let redis_url = redis_group.as_ref().map_or_else(|| redis.url(), RedisGroup::url);
        let mut starter = ServiceStarter {
            path,
            redis_port: redis.port(),
            postgres: postgres.as_ref(),
            settings: vec![
                ("DATABASE_URL".to_owned(), database_url.clone()),
                ("CREATE_DATABASE".to_owned(), "true".to_owned()),
                ("REDIS_URL".to_owned(), redis_url),
                ("ROOMCAST_LOG_FORMAT".to_owned(), "text".to_owned()),
            ],
            links: self.has_links.then(Vec::new),
        };
        let of_workers = [&self.worker_settings[..], &settings_of(worker_disk.as_ref())].concat();
        let mut workers = starter.start_workers(self.workers, &of_workers).await?;
        let gateways = starter.start_gateways(self.gateways, &self.gateway_settings).await?;
        let worker_settings = [&starter.settings[..], &of_workers].concat();
        let links = starter.links.unwrap_or_default();
        let mut stack = Stack {
            gateways,
            worker: workers.remove(0),
            standbys: workers,
            redis,
            redis_group,
            postgres,
            redis_disk,
            worker_disk,
            links,
            database_url,
            worker_settings,
            directory,
        };
        stack.wait_ready().await?;
        Ok(stack)
    }
}

/// The environment that gives a process its disk; empty without one.
fn settings_of(disk: Option<&Disk>) -> Settings {
    disk.map(|disk| disk.settings().to_vec()).unwrap_or_default()
}
