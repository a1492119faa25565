//! All processes of one installation, in a directory of their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use tempfile::TempDir;

use crate::{App, Database, Explain as _, Failure, Gateway, RedisServer, Result, Worker};

/// How long the services may take until they are ready, also on a machine that is busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(30);

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

/// A Redis, one worker and one or more gateways on one database file.
///
/// Dropping it ends every process; after a panic it shows their logs.
pub struct Stack {
    /// In the order in which they are dropped: those who use something go before it.
    pub gateways: Vec<Gateway>,
    /// The worker.
    pub worker: Worker,
    /// The Redis they share.
    pub redis: RedisServer,
    worker_settings: Vec<(String, String)>,
    directory: TempDir,
}

impl Stack {
    /// Starts one of each with the rig's settings.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Begins a stack with other settings.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            gateways: 1,
            gateway_settings: Vec::new(),
            worker_settings: Vec::new(),
        }
    }

    /// Nobody in particular, at the first gateway.
    pub fn app(&self) -> Result<App> {
        App::at(&self.gateways[0].url())
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

    /// Opens the database file for a look from outside.
    pub async fn database(&self) -> Result<Database> {
        Database::open(&database_file(self.directory.path())).await
    }

    /// Describes one more worker of this installation, called `name`. It is not started yet.
    pub fn another_worker(&self, name: &str) -> Result<Worker> {
        Worker::new(name, self.directory.path(), &self.worker_settings)
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

/// A stack that is about to be started.
pub struct Builder {
    gateways: usize,
    gateway_settings: Vec<(String, String)>,
    worker_settings: Vec<(String, String)>,
}

impl Builder {
    /// How many gateways; 1 unless said otherwise.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// Sets an environment variable of every gateway.
    #[must_use]
    pub fn gateway(mut self, variable: &str, value: &str) -> Self {
        self.gateway_settings.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Sets an environment variable of the worker.
    #[must_use]
    pub fn worker(mut self, variable: &str, value: &str) -> Self {
        self.worker_settings.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> Result<Stack> {
        if self.gateways == 0 {
            return Err(Failure::new("a stack has at least one gateway"));
        }
        let directory = TempDir::with_prefix("roomcast-")?;
        let path = directory.path();
        let redis = RedisServer::start(path).await?;
        let shared = [
            ("DATABASE_URL".to_owned(), format!("sqlite://{}", database_file(path).display())),
            ("REDIS_URL".to_owned(), redis.url()),
            ("ROOMCAST_LOG_FORMAT".to_owned(), "text".to_owned()),
        ];

        let worker_settings = [&shared[..], &self.worker_settings].concat();
        let mut worker = Worker::new("worker", path, &worker_settings)?;
        worker.start()?;

        let defaults = GATEWAY_SETTINGS.map(|(variable, value)| (variable.to_owned(), value.to_owned()));
        let key = ("SIGNING_KEY_FILE".to_owned(), signing_key_file(path).display().to_string());
        let settings = [&shared[..], &defaults, &[key], &self.gateway_settings].concat();
        let mut gateways = Vec::new();
        for number in 1..=self.gateways {
            let mut gateway = Gateway::new(&format!("gateway-{number}"), path, &settings)?;
            gateway.start()?;
            gateways.push(gateway);
        }

        let mut stack = Stack {
            gateways,
            worker,
            redis,
            worker_settings,
            directory,
        };
        stack.wait_ready().await?;
        Ok(stack)
    }
}

fn database_file(directory: &Path) -> PathBuf {
    directory.join("roomcast.db")
}

fn signing_key_file(directory: &Path) -> PathBuf {
    directory.join("signing.key")
}
