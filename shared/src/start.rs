//! What both services do first: open the database, and say in one line what starts.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::settings::{RedisArgs, StorageArgs};
use crate::storage::{Installation, OpenError, Role, Store};

/// Pause before a database that is away is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Opens the database with an up-to-date schema, at the first try.
pub async fn open_once(args: &StorageArgs, role: Role) -> Result<(Store, Installation), OpenError> {
    let url = args.database_url.expose();
    if !args.create_database {
        Store::check_exists(url)?;
    }
    let store = Store::open(url, role).await.map_err(|error| error.with_address(&args.database_url))?;
    let migrated = store.migrate(args.partitions, Uuid::new_v4().as_u64_pair().0).await;
    Ok((store, migrated.map_err(|error| error.with_address(&args.database_url))?))
}

/// The same, again and again while the database is away, which is said once. `None` when `stop` is cancelled before it is
/// there.
pub async fn open_when_there(
    args: &StorageArgs,
    role: Role,
    stop: &CancellationToken,
) -> Result<Option<(Store, Installation)>, OpenError> {
    let mut complained = false;
    loop {
        match open_once(args, role).await {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if error.is_transient() => {
                if !complained {
                    warn!(error = %error, "waiting for the database: {error}");
                    complained = true;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Says what starts, and on what: two services that do not meet are told apart by these lines.
pub fn say_what_starts(
    service: &str,
    version: &str,
    (storage, redis): (&StorageArgs, &RedisArgs),
    installation: &Installation,
) {
    let (database, redis) = (storage.database_url.without_login(), redis.redis_url.without_login());
    let (id, partitions) = (installation.id, installation.partitions);
    info!(
        service.name = service, service.version = version, installation.id = %id, installation.partitions = partitions,
        database.url = database, redis.url = redis,
        "{service} {version} starts for installation {id} with {partitions} partitions on {database} and {redis}"
    );
}
