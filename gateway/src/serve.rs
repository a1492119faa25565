//! Serves: opens what the gateway stands on, starts its parts, runs the server, and stops everything in order.

use shared::bootstrap::{BootstrapError, Context};
use shared::lifecycle::Lifecycle;
use tokio::net::TcpListener;
use tracing::info;

use crate::commands::agreed_keys;
use crate::config::{BINARY, Config};
use crate::fanout::Fanout;
use crate::server::ServerLimits;
use crate::start_error::StartError;
use crate::{api, server, services};

/// Serves on `listener` until `lifecycle` stops it.
pub async fn run(config: Config, listener: TcpListener, lifecycle: Lifecycle) -> Result<(), StartError> {
    let Some(context) = Context::open(&BINARY, &config.common, &lifecycle).await? else {
        return Ok(());
    };
    let keys = agreed_keys(&config, &context.store, false).await?;
    let limits = ServerLimits {
        max_connections: config.limits.max_connections as usize,
        connections_per_address: config.limits.connections_of_one() as usize,
        ..ServerLimits::default()
    };
    let (soft, hard) = (lifecycle.soft.clone(), lifecycle.hard.clone());
    let (fanout, threads) = Fanout::start(config.streams.threads(), limits.write_stall).map_err(StartError::Threads)?;
    let (services, background) = services::build(&config, &keys, &context, fanout.clone())?;
    let for_requests = background.spawn(&config, &context);
    for end in threads.ends() {
        lifecycle.spawn_essential("a thread of the fan-out", end);
    }
    // Posts are refused until Redis is found to keep them; what needs only SQL is served meanwhile.
    let unsafe_redis = context.clone().preflight_in_background();
    if let Ok(address) = listener.local_addr() {
        info!(http.address = %address, "serving on http://{address}/");
    }
    let proxies = api::access::proxies(&config);
    let answers = (api::endpoint(services, &config), api::refusals(&config));
    server::serve(listener, answers, limits, proxies, soft, hard.clone()).await;
    for_requests.finish(&hard).await;
    fanout.close();
    lifecycle.drain().await;
    context.store.close().await;
    info!("the gateway has stopped");
    match unsafe_redis.get() {
        Some(reason) => Err(BootstrapError::from(reason.clone()).into()),
        None if lifecycle.was_forced() => Err(StartError::Forced),
        None if lifecycle.has_failed() => Err(StartError::Failed),
        None => Ok(()),
    }
}
