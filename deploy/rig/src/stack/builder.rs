//! What a stack consists of, and starting it.

use std::path::Path;

use tempfile::TempDir;

use super::{Backend, Ends, Link, Spread, Stack, Topology, signing_key_file};
use crate::{Disk, Failure, Gateway, PostgresServer, RedisServer, Result, Worker, statements};

/// Settings of every gateway unless the test sets others: limits are those of production, passwords may be those of the
/// specification's examples, and the first user is an admin.
const GATEWAY_SETTINGS: [(&str, &str); 3] = [
    ("PASSWORD_MIN_LENGTH", "4"),
    ("ALLOW_WEAK_PASSWORDS", "true"),
    ("FIRST_USER_IS_ADMIN", "true"),
];

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

/// The database in a Postgres.
pub(super) const DATABASE: &str = "roomcast";

/// Whom everybody but the workers logs in as there.
const USER: &str = "roomcast";

type Settings = Vec<(String, String)>;

/// A stack that is about to be started.
pub struct Builder {
    gateways: usize,
    workers: usize,
    has_links: bool,
    has_disks: bool,
    backend: Backend,
    topology: Topology,
    gateway_settings: Settings,
    worker_settings: Settings,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            gateways: 1,
            workers: 1,
            has_links: false,
            has_disks: false,
            backend: Backend::default(),
            topology: Topology::default(),
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

    /// What messages are kept in; an SQLite file unless said otherwise.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// What Redis they use; one server unless said otherwise. A set of several goes without links.
    #[must_use]
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
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

    /// Lets a client post, create, join and leave as fast as it can. What is set by name stands.
    #[must_use]
    pub fn without_rates(self) -> Self {
        self.lift(&RATES)
    }

    /// Lifts all limits of clients, for loads in which one plays many. What is set by name stands.
    #[must_use]
    pub fn without_limits(self) -> Self {
        self.lift(&RATES).lift(&OTHER_LIMITS)
    }

    fn lift(mut self, limits: &[&str]) -> Self {
        let lifted = limits.iter().map(|limit| ((*limit).to_owned(), "0".to_owned()));
        self.gateway_settings.splice(0..0, lifted);
        self
    }

    /// Lets the gateways log the statements they send.
    #[must_use]
    pub fn telling_statements(self) -> Self {
        let (setting, value) = statements::TELLING;
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
        let spread = Spread::start(self.topology, path).await?;
        let redis_url = spread.as_ref().map_or_else(|| redis.url(), Spread::url);
        let mut site = Site {
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
        let mut workers = site.start_workers(self.workers, &of_workers).await?;
        let gateways = site.start_gateways(self.gateways, &self.gateway_settings).await?;
        let worker_settings = [&site.settings[..], &of_workers].concat();
        let links = site.links.unwrap_or_default();
        let mut stack = Stack {
            gateways,
            worker: workers.remove(0),
            standbys: workers,
            redis,
            spread,
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

/// What leads a process to its disk; nothing without one.
fn settings_of(disk: Option<&Disk>) -> Settings {
    disk.map(|disk| disk.settings().to_vec()).unwrap_or_default()
}

/// Where the services of a stack are started, and what all of them are told.
struct Site<'a> {
    path: &'a Path,
    redis_port: u16,
    postgres: Option<&'a PostgresServer>,
    settings: Settings,
    /// The proxied links so far; `None` if there are to be none.
    links: Option<Vec<Link>>,
}

impl Site<'_> {
    async fn start_workers(&mut self, count: usize, settings: &[(String, String)]) -> Result<Vec<Worker>> {
        let mut workers = Vec::new();
        for number in 0..count {
            // The first one keeps the name it has when it is alone.
            let name = if number == 0 {
                "worker".to_owned()
            } else {
                format!("worker-{}", number + 1)
            };
            // By that name Postgres knows who commits.
            if let Some(postgres) = self.postgres {
                postgres.create_user(&name).await?;
            }
            let ways = self.ways(Ends::WorkerRedis(number), Ends::WorkerPostgres(number), &name).await?;
            let settings = [&self.settings, settings, &ways].concat();
            let mut worker = Worker::new(&name, self.path, &settings)?;
            worker.start()?;
            workers.push(worker);
        }
        Ok(workers)
    }

    async fn start_gateways(&mut self, count: usize, settings: &[(String, String)]) -> Result<Vec<Gateway>> {
        let defaults = GATEWAY_SETTINGS.map(|(variable, value)| (variable.to_owned(), value.to_owned()));
        let key = ("SIGNING_KEY_FILE".to_owned(), signing_key_file(self.path).display().to_string());
        let mut gateways = Vec::new();
        for number in 0..count {
            let ways = self.ways(Ends::GatewayRedis(number), Ends::GatewayPostgres(number), USER).await?;
            let settings = [
                &self.settings[..],
                &defaults,
                std::slice::from_ref(&key),
                settings,
                &ways,
            ]
            .concat();
            let mut gateway = Gateway::new(&format!("gateway-{}", number + 1), self.path, &settings)?;
            gateway.start()?;
            if let Some(links) = &mut self.links {
                links.push(Link::to(gateway.port(), Ends::Door(number)).await?);
            }
            gateways.push(gateway);
        }
        Ok(gateways)
    }

    /// The settings that lead one service to Redis and Postgres, there as `user`, and over links of its own if there are
    /// links.
    async fn ways(&mut self, redis: Ends, postgres: Ends, user: &str) -> Result<Settings> {
        let mut settings = Vec::new();
        if let Some(links) = &mut self.links {
            let link = Link::to(self.redis_port, redis).await?;
            settings.push(("REDIS_URL".to_owned(), format!("redis://127.0.0.1:{}", link.proxy.port())));
            links.push(link);
        }
        if let Some(server) = self.postgres {
            let mut port = server.port();
            if let Some(links) = &mut self.links {
                let link = Link::to(port, postgres).await?;
                port = link.proxy.port();
                links.push(link);
            }
            settings.push(("DATABASE_URL".to_owned(), format!("postgres://{user}@127.0.0.1:{port}/{DATABASE}")));
        }
        Ok(settings)
    }
}
