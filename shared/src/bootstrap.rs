//! The start of a binary: settings, log, signals, database, Redis, exit code.
//!
//! Both binaries start by the same steps, in this order:
//!
//! 1. [`main`] parses the settings, sets up the log and runs the binary's tasks in a runtime.
//! 2. [`begin`] checks the Redis settings and has the signals of the process stop a [`Lifecycle`].
//! 3. [`Context::open`] opens the database, waiting for it if it is away, and logs what starts.
//! 4. [`Context::preflight`], or [`Context::preflight_in_background`], waits until Redis keeps what it accepts.
//!
//! Nothing else reads the environment, installs a signal handler or decides about the exit code.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::bus::{InvalidRedisSettings, PreflightError, RedisConnector};
use crate::lifecycle::Lifecycle;
use crate::settings::{self, BinaryArgs, EXIT_USAGE, RedisArgs, StorageArgs};
use crate::storage::{Installation, OpenError, Role, Store};
use crate::telemetry::{self, FailureSeries, InvalidFilter};

/// Pause before a database that is away is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A binary, as it appears in its log lines and to the database.
#[derive(Debug, Clone, Copy)]
pub struct Binary {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// How it uses the database.
    pub role: Role,
}

/// The settings of a binary, as far as starting one needs them.
pub trait BinarySettings: Parser {
    /// The settings that both binaries have.
    fn common(&self) -> &BinaryArgs;
    /// Threads that run tasks; `None` for as many as there are cores.
    fn threads(&self) -> Option<usize> {
        None
    }
}

/// An error that ends the process.
pub trait Fatal: Display + From<BootstrapError> {
    /// [`EXIT_USAGE`] for settings that cannot work, 1 for what may work the next time.
    fn exit_code(&self) -> u8;
}

/// Why a binary could not start.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The log filter cannot be parsed.
    #[error("ROOMCAST_LOG is not a filter: {0}")]
    LogFilter(#[from] InvalidFilter),
    /// The threads that run tasks cannot be started.
    #[error("cannot start a thread: {0}")]
    Runtime(std::io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// The settings lead to no Redis.
    #[error(transparent)]
    Redis(#[from] InvalidRedisSettings),
    /// Redis does not keep what it accepts, or refuses the login.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl BootstrapError {
    /// [`EXIT_USAGE`] for settings that cannot work, 1 for what may work the next time.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::LogFilter(_) | Self::Redis(_) | Self::Preflight(_) => EXIT_USAGE,
            Self::Open(error) if error.is_configuration_error() => EXIT_USAGE,
            Self::Runtime(_) | Self::Signals(_) | Self::Open(_) => 1,
        }
    }
}

/// Runs `binary` with the settings of its command line and environment, and returns the exit code of the process. An error is
/// one line on standard error.
pub fn main<C, E, F>(binary: &Binary, start: impl FnOnce(C) -> F) -> ExitCode
where
    C: BinarySettings,
    E: Fatal,
    F: Future<Output = Result<(), E>>,
{
    let config = match settings::parse::<C>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match run(config, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            settings::print_error(binary.name, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run<C, E, F>(config: C, start: impl FnOnce(C) -> F) -> Result<(), E>
where
    C: BinarySettings,
    E: Fatal,
    F: Future<Output = Result<(), E>>,
{
    let mut runtime = Builder::new_multi_thread();
    if let Some(threads) = config.threads() {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build().map_err(BootstrapError::Runtime)?;
    telemetry::init(&config.common().log).map_err(BootstrapError::LogFilter)?;
    runtime.block_on(start(config))
}

/// Checks the settings that nothing checks before the process works, and returns a lifecycle that the signals of the process
/// stop.
pub fn begin(args: &BinaryArgs) -> Result<Lifecycle, BootstrapError> {
    RedisConnector::check_settings(&args.redis)?;
    let lifecycle = Lifecycle::new();
    lifecycle.watch_signals(args.shutdown.deadline()).map_err(BootstrapError::Signals)?;
    Ok(lifecycle)
}

/// What a process works with once it has started. Clones share all of it.
#[derive(Clone)]
pub struct Context {
    /// The database, with an up-to-date schema.
    pub store: Store,
    /// The installation that the database holds.
    pub installation: Installation,
    /// The Redis of the installation. Its clients work once the preflight check has succeeded.
    pub redis: RedisConnector,
    /// What stops the process.
    pub lifecycle: Lifecycle,
    allow_unsafe_redis: bool,
}

impl Context {
    /// Opens the database, waiting for it if it is away, and logs what starts. `None` when `lifecycle` stops before the
    /// database is there.
    pub async fn open(
        binary: &Binary,
        args: &BinaryArgs,
        lifecycle: &Lifecycle,
    ) -> Result<Option<Self>, BootstrapError> {
        let (storage, redis) = (&args.storage, &args.redis);
        let Some((store, installation)) = open_store_when_available(storage, binary.role, &lifecycle.soft).await?
        else {
            return Ok(None);
        };
        let connector = RedisConnector::open(redis, installation.key_space(), lifecycle.soft.clone())?;
        log_start(binary, storage, redis, &installation);
        Ok(Some(Self {
            store,
            installation,
            redis: connector,
            lifecycle: lifecycle.clone(),
            allow_unsafe_redis: redis.allow_unsafe_redis,
        }))
    }

    /// Waits until Redis keeps what it accepts, or until the process stops. From then on a task watches its settings.
    pub async fn preflight(&self) -> Result<(), PreflightError> {
        let Self { redis, lifecycle, .. } = self.clone();
        let report = redis.wait_until_safe(self.allow_unsafe_redis, &lifecycle.soft).await?;
        let soft = lifecycle.soft;
        lifecycle.tracker.spawn(async move { redis.watch_settings(report, &soft).await });
        Ok(())
    }

    /// The same in the background, for a process that works without Redis meanwhile. If Redis may not be used, the process
    /// stops, and the returned cell holds the reason.
    #[must_use]
    pub fn preflight_in_background(&self) -> Arc<OnceLock<PreflightError>> {
        let reason = Arc::new(OnceLock::new());
        let (this, found) = (self.clone(), Arc::clone(&reason));
        self.lifecycle.tracker.spawn(async move {
            if let Err(error) = this.preflight().await {
                found.get_or_init(|| error);
                this.lifecycle.soft.cancel();
            }
        });
        reason
    }
}

/// Opens the database with an up-to-date schema, at the first attempt. Commands use it, which run once and exit.
pub async fn open_store(args: &StorageArgs, role: Role) -> Result<(Store, Installation), BootstrapError> {
    Ok(try_open(args, role).await?)
}

/// The same, again and again while the database is away, which is logged once. `None` when `stop` is cancelled before the
/// database is there.
async fn open_store_when_available(
    args: &StorageArgs,
    role: Role,
    stop: &CancellationToken,
) -> Result<Option<(Store, Installation)>, OpenError> {
    let mut failures = FailureSeries::default();
    loop {
        match try_open(args, role).await {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if error.is_transient() => {
                if failures.failed() {
                    warn!(error = %error, "waiting for the database: {error}");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(RETRY_PAUSE) => {}
        }
    }
}

async fn try_open(args: &StorageArgs, role: Role) -> Result<(Store, Installation), OpenError> {
    let url = args.database_url.expose();
    if !args.create_database {
        Store::check_exists(url)?;
    }
    let store = Store::open(url, role).await.map_err(|error| error.with_address(&args.database_url))?;
    let migrated = store.migrate(args.partitions, Uuid::new_v4().as_u64_pair().0).await;
    Ok((store, migrated.map_err(|error| error.with_address(&args.database_url))?))
}

/// Logs what starts, and on what: these lines show why two processes do not meet.
fn log_start(binary: &Binary, storage: &StorageArgs, redis: &RedisArgs, installation: &Installation) {
    let Binary { name, version, .. } = binary;
    let (database, redis) = (storage.database_url.without_login(), redis.redis_url.without_login());
    let (id, partitions) = (installation.id, installation.partitions);
    info!(
        service.name = name, service.version = version, installation.id = %id, installation.partitions = partitions,
        database.url = database, redis.url = redis,
        "{name} {version} starts for installation {id} with {partitions} partitions on {database} and {redis}"
    );
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;
    use crate::bus::InvalidAddress;

    #[test]
    fn settings_that_cannot_work_have_their_own_exit_code() {
        let failure = || Error::from(ErrorKind::PermissionDenied);
        for (error, code) in [
            (BootstrapError::Redis(InvalidAddress::Scheme.into()), EXIT_USAGE),
            (BootstrapError::Preflight(PreflightError::Kind("a replica")), EXIT_USAGE),
            (BootstrapError::Open(OpenError::UnknownScheme), EXIT_USAGE),
            (BootstrapError::Open(OpenError::UnfinishedCopy), 1),
            (BootstrapError::Runtime(failure()), 1),
            (BootstrapError::Signals(failure()), 1),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[tokio::test]
    async fn stop_ends_the_wait_for_a_database() {
        let args = StorageArgs {
            database_url: "postgres://127.0.0.1:1/roomcast".into(),
            create_database: false,
            partitions: 1,
        };
        let stop = CancellationToken::new();
        stop.cancel();
        let opened = open_store_when_available(&args, Role::Worker, &stop).await;
        assert!(matches!(opened, Ok(None)));
    }
}
