//! The gateway: HTTP in, server-sent events out.
//!
//! - [`api`] spells the product in HTTP; [`docs`] shows it to people.
//! - [`auth`] says who is calling, [`rooms`] what they may see, [`limits`] how often.
//! - [`accept`] takes messages; from there on they are never lost. The gateway itself stores no message.
//! - [`history`] reads what is stored, once for many.
//! - [`live`] sends stored messages to whoever follows a room; [`message`] is the object they become.
//! - [`control_channel`], [`revocation_watcher`], `freshness` and [`invalidating_cache`] keep what gateways remember true across all of them.
//! - `worker_watch` says when nobody stores what is posted.
//! - `epoch_watch` starts over when history was restored from a backup.
//! - [`server`] is the accept loop around it all.
//!
//! A gateway holds nothing that is not in SQL or Redis: add copies of it, and kill them, at will.

pub mod accept;
pub mod api;
pub mod app;
pub mod auth;
mod clock_check;
mod config;
pub mod control_channel;
mod digest;
pub mod docs;
mod encoding;
mod epoch_watch;
pub mod event_dispatch;
pub mod fanout;
mod freshness;
pub mod history;
pub mod invalidating_cache;
mod json;
pub mod limits;
pub mod live;
pub mod message;
pub mod readiness;
pub mod revocation_watcher;
pub mod rooms;
pub mod server;
mod worker_watch;

use std::sync::Arc;

pub use config::{Ack, Command, Config};
use shared::bootstrap::{self, BootstrapError, Context, Fatal, Service, ServiceSettings};
use shared::domain::{Timestamp, Username};
use shared::lifecycle::Lifecycle;
use shared::settings::{EXIT_USAGE, LogArgs, RedisArgs, ShutdownArgs, StorageArgs};
use shared::storage::{Role, Store, StoreError};
use tokio::net::TcpListener;
use tracing::info;

use crate::app::App;
use crate::auth::tokens::fingerprints;
use crate::fanout::Fanout;
use crate::live::{ByeReason, Subscriber, run_subscriber};
use crate::server::ServerLimits;
use crate::server::listen::ListenAddress;

/// This binary.
pub const SERVICE: Service = Service {
    name: "gateway",
    version: env!("ROOMCAST_VERSION"),
    role: Role::Gateway,
};

impl ServiceSettings for Config {
    fn storage(&self) -> &StorageArgs {
        &self.storage
    }

    fn redis(&self) -> &RedisArgs {
        &self.redis
    }

    fn shutdown(&self) -> &ShutdownArgs {
        &self.shutdown
    }

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn threads(&self) -> Option<usize> {
        Some(self.streams.request_threads())
    }
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A step of the start that every service has failed.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// There are no keys for access tokens.
    #[error("SIGNING_KEY_FILE: {0}")]
    Keys(#[from] auth::keys::KeyError),
    /// Tokens of this gateway would be refused by all others, and theirs by this one.
    #[error(
        "SIGNING_KEY_FILE holds none of the keys that this installation signs with: copy the other gateways' file here; to \
         change keys, add the new one to their file as a further line first, or run `gateway replace-keys`, which logs \
         everybody out"
    )]
    ForeignKeys,
    /// Passwords cannot be hashed.
    #[error("passwords cannot be hashed")]
    Hashing,
    /// The threads that write to streams cannot be started.
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {0} (GATEWAY_LISTEN): {1}")]
    Listen(ListenAddress, std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of the gateway ended unasked.
    #[error("the gateway stopped because a part of it failed")]
    Failed,
    /// A second signal came before the gateway had stopped.
    #[error("stopped at once by a second signal")]
    Forced,
    /// There is nobody of this name.
    #[error("there is no user named '{0}'")]
    NoSuchUser(String),
}

impl Fatal for StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Bootstrap(error) => error.exit_code(),
            Self::Keys(_) | Self::ForeignKeys => EXIT_USAGE,
            Self::Hashing
            | Self::Threads(_)
            | Self::Listen(..)
            | Self::Store(_)
            | Self::Failed
            | Self::Forced
            | Self::NoSuchUser(_) => 1,
        }
    }
}

/// The keys in the key file, if the installation signs with one of them; with `replace` it does from now on.
async fn agreed_keys(config: &Config, store: &Store, replace: bool) -> Result<Vec<Vec<u8>>, StartError> {
    let keys = auth::keys::load_or_create(&config.accounts.signing_key_file)?;
    let agreed = store.agree_on_signing_keys(fingerprints(&keys), replace, Timestamp::now()).await?;
    if agreed { Ok(keys) } else { Err(StartError::ForeignKeys) }
}

/// Makes the keys in the key file those of the installation, whatever they were.
pub async fn replace_keys(config: &Config) -> Result<(), StartError> {
    let (store, _) = bootstrap::open_store(&config.storage, SERVICE.role).await?;
    agreed_keys(config, &store, true).await?;
    store.close().await;
    Ok(())
}

/// Makes the user named `username` an admin.
pub async fn grant_admin(config: &Config, username: &str) -> Result<(), StartError> {
    let (store, _) = bootstrap::open_store(&config.storage, SERVICE.role).await?;
    let no_such_user = || StartError::NoSuchUser(username.to_owned());
    let name = Username::parse(username).map_err(|_| no_such_user())?;
    // As it was registered in an earlier release, or in the form that names have today.
    let found = store.grant_admin(&name).await? || store.grant_admin(&name.composed()).await?;
    store.close().await;
    if found { Ok(()) } else { Err(no_such_user()) }
}

/// Serves on `listener` until `lifecycle` stops it.
pub async fn run(config: Config, listener: TcpListener, lifecycle: Lifecycle) -> Result<(), StartError> {
    let Some(context) = Context::open(&SERVICE, &config, &lifecycle).await? else {
        return Ok(());
    };
    let Context {
        store,
        installation,
        redis,
        ..
    } = context.clone();
    let keys = agreed_keys(&config, &store, false).await?;
    let (subscriber, commands) = Subscriber::new();
    let backlog = config.limits.backlog_per_partition;
    let limits = ServerLimits {
        max_connections: config.limits.max_connections as usize,
        connections_per_address: config.limits.connections_of_one() as usize,
        ..ServerLimits::default()
    };
    let (soft, hard) = (lifecycle.soft.clone(), lifecycle.hard.clone());
    let (fanout, threads) = Fanout::start(config.streams.threads(), limits.write_stall).map_err(StartError::Threads)?;
    let app =
        App::new(config, &keys, store.clone(), installation, &redis, subscriber, fanout.clone(), lifecycle.clone())?;
    let stop = || soft.clone();
    lifecycle.spawn_essential("the subscriber", run_subscriber(redis.clone(), commands, Arc::clone(&app), stop()));
    lifecycle.spawn_essential("the keeper of feeds", app.hub.clone().maintain(stop()));
    lifecycle.spawn_essential("the keeper of stream leases", app.quota.clone().maintain(stop()));
    lifecycle.spawn_essential("the watch over removals", Arc::clone(&app).watch_revocations(stop()));
    lifecycle.spawn_essential("the watch over workers", Arc::clone(&app).watch_workers(stop()));
    lifecycle.spawn_essential("the watch over the epoch", Arc::clone(&app).watch_epoch(stop()));
    lifecycle.spawn_essential("the watch over the clock", clock_check::watch(app.redis.clone(), stop()));
    lifecycle.spawn_essential("the watch over the backlog", app.acceptor.watch_backlog(backlog, stop()));
    lifecycle.spawn_essential("the look-up of overdue posts", app.acceptor.look_up_overdue(stop()));
    for end in threads.ends() {
        lifecycle.spawn_essential("a thread of the fan-out", end);
    }
    let (streams, stopped) = (app.stream_registry.clone(), stop());
    lifecycle.tracker.spawn(async move {
        stopped.cancelled().await;
        streams.end_all(ByeReason::Shutdown);
    });
    // Posts are refused until Redis is found to keep them; what needs only SQL is served meanwhile.
    let unsafe_redis = context.preflight_in_background();
    if let Ok(address) = listener.local_addr() {
        info!(http.address = %address, "serving on http://{address}/");
    }
    let proxies = api::access::proxies(&app.config);
    server::serve(listener, (api::endpoint(&app), api::refusals(&app)), limits, proxies, soft.clone(), hard).await;
    fanout.close();
    lifecycle.drain().await;
    store.close().await;
    info!("the gateway has stopped");
    match unsafe_redis.get() {
        Some(reason) => Err(BootstrapError::from(reason.clone()).into()),
        None if lifecycle.was_forced() => Err(StartError::Forced),
        None if lifecycle.has_failed() => Err(StartError::Failed),
        None => Ok(()),
    }
}
