//! What a stack consists of, and starting it.

use std::path::Path;

use tempfile::TempDir;

use super::{Ends, Link, Stack, database_file, signing_key_file};
use crate::{Failure, Gateway, RedisServer, Result, Worker};

/// Settings of every gateway unless the test sets others: no limits, and passwords as in the specification's examples.
const GATEWAY_SETTINGS: [(&str, &str); 8] = [
    ("PASSWORD_MIN_LENGTH", "4"),
    ("POST_PER_S", "0"),
    ("LOGIN_PER_ACCOUNT", "0"),
    ("LOGIN_PER_ADDRESS", "0"),
    ("REGISTER_PER_ADDRESS", "0"),
    ("STREAMS_PER_USER", "0"),
    ("STREAMS_PER_ADDRESS", "0"),
    ("FIRST_USER_IS_ADMIN", "true"),
];

type Settings = Vec<(String, String)>;

/// A stack that is about to be started.
pub struct Builder {
    gateways: usize,
    workers: usize,
    has_links: bool,
    gateway_settings: Settings,
    worker_settings: Settings,
    redis_settings: Settings,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            gateways: 1,
            workers: 1,
            has_links: false,
            gateway_settings: Vec::new(),
            worker_settings: Vec::new(),
            redis_settings: Vec::new(),
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

    /// Puts a proxy into every link: clients to gateways, and gateways and workers to Redis.
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

    /// Sets an environment variable of every worker.
    #[must_use]
    pub fn worker(mut self, variable: &str, value: &str) -> Self {
        self.worker_settings.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Sets an environment variable of Redis.
    #[must_use]
    pub fn redis(mut self, variable: &str, value: &str) -> Self {
        self.redis_settings.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> Result<Stack> {
        if self.gateways == 0 || self.workers == 0 {
            return Err(Failure::new("a stack has at least one gateway and one worker"));
        }
        let directory = TempDir::with_prefix("roomcast-")?;
        let path = directory.path();
        let redis = RedisServer::start_with(path, &self.redis_settings).await?;
        let shared = [
            ("DATABASE_URL".to_owned(), format!("sqlite://{}", database_file(path).display())),
            ("REDIS_URL".to_owned(), redis.url()),
            ("ROOMCAST_LOG_FORMAT".to_owned(), "text".to_owned()),
        ];
        let mut links = Vec::new();
        let worker_settings = [&shared[..], &self.worker_settings].concat();
        let mut workers = self.start_workers(path, &worker_settings, &redis, &mut links).await?;
        let gateways = self.start_gateways(path, &shared, &redis, &mut links).await?;
        let worker = workers.remove(0);
        let mut stack = Stack {
            gateways,
            worker,
            standbys: workers,
            redis,
            links,
            worker_settings,
            directory,
        };
        stack.wait_ready().await?;
        Ok(stack)
    }

    async fn start_workers(
        &self,
        path: &Path,
        settings: &[(String, String)],
        redis: &RedisServer,
        links: &mut Vec<Link>,
    ) -> Result<Vec<Worker>> {
        let mut workers = Vec::new();
        for number in 0..self.workers {
            let mut settings = settings.to_vec();
            if self.has_links {
                let link = Link::to_redis(Ends::WorkerRedis(number), redis).await?;
                settings.push(link.redis_setting());
                links.push(link);
            }
            // The first one keeps the name it has when it is alone.
            let name = if number == 0 {
                "worker".to_owned()
            } else {
                format!("worker-{}", number + 1)
            };
            let mut worker = Worker::new(&name, path, &settings)?;
            worker.start()?;
            workers.push(worker);
        }
        Ok(workers)
    }

    async fn start_gateways(
        &self,
        path: &Path,
        shared: &[(String, String)],
        redis: &RedisServer,
        links: &mut Vec<Link>,
    ) -> Result<Vec<Gateway>> {
        let defaults = GATEWAY_SETTINGS.map(|(variable, value)| (variable.to_owned(), value.to_owned()));
        let key = ("SIGNING_KEY_FILE".to_owned(), signing_key_file(path).display().to_string());
        let settings = [shared, &defaults, &[key], &self.gateway_settings].concat();
        let mut gateways = Vec::new();
        for number in 0..self.gateways {
            let mut settings = settings.clone();
            if self.has_links {
                let link = Link::to_redis(Ends::GatewayRedis(number), redis).await?;
                settings.push(link.redis_setting());
                links.push(link);
            }
            let mut gateway = Gateway::new(&format!("gateway-{}", number + 1), path, &settings)?;
            gateway.start()?;
            if self.has_links {
                links.push(Link::to_gateway(number, &gateway).await?);
            }
            gateways.push(gateway);
        }
        Ok(gateways)
    }
}
