//! Which worker is at work.
//!
//! A key in Redis holds the name of the active worker and expires unless it is renewed. This is for liveness alone: it
//! may fail in both directions (two workers believing in it during a Redis failover), and the fence number in SQL then
//! lets only the later one commit.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{RedisResult, Script, SetExpiry, SetOptions};
use shared::bus::{Link, WORKER_LEASE};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

/// How long a worker that vanished keeps others waiting.
pub const LEASE_TTL: Duration = Duration::from_secs(2);

/// How often the active worker renews, and how often a standing-by one looks.
const RENEW_EVERY: Duration = Duration::from_millis(300);

/// Renews the lease if it is still ours.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end",
    )
});

/// Gives the lease back if it is still ours.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end")
});

/// Held while this worker is the active one.
pub struct Lease {
    connection: Link,
    name: String,
    lost: CancellationToken,
    renewal: JoinHandle<()>,
    _ends_renewal: DropGuard,
}

impl Lease {
    /// Waits until no other worker holds the lease; `None` if `stop` came first.
    pub async fn acquire(mut connection: Link, name: &str, stop: &CancellationToken) -> Option<Self> {
        let mut complained = false;
        loop {
            match take(&mut connection, name).await {
                Ok(true) => break,
                Ok(false) => complained = false,
                Err(error) if complained => tracing::debug!("{error}"),
                Err(error) => {
                    warn!(error = %error, "Redis cannot be reached, trying on: {error}");
                    complained = true;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(RENEW_EVERY) => {}
            }
        }
        let (lost, end) = (CancellationToken::new(), CancellationToken::new());
        let renewal = tokio::spawn(renew(connection.clone(), name.to_owned(), lost.clone(), end.clone()));
        Some(Self {
            connection,
            name: name.to_owned(),
            lost,
            renewal,
            _ends_renewal: end.drop_guard(),
        })
    }

    /// A token that is cancelled when the lease is lost or `stop` is cancelled.
    #[must_use]
    pub fn lost_or(&self, stop: &CancellationToken) -> CancellationToken {
        let either = self.lost.child_token();
        let (stop, other) = (stop.clone(), either.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => other.cancel(),
                () = other.cancelled() => {}
            }
        });
        either
    }

    /// Lets a standing-by worker start at once instead of after the lease's time.
    pub async fn release(mut self) {
        self.renewal.abort();
        self.lost.cancel();
        let given_back: RedisResult<i64> =
            RELEASE.key(WORKER_LEASE).arg(&self.name).invoke_async(&mut self.connection).await;
        if let Err(error) = given_back {
            warn!(error = %error, "the lease was not given back and expires by itself: {error}");
        }
    }
}

/// True if the lease was free, or ours from before a reply was lost.
async fn take(connection: &mut Link, name: &str) -> RedisResult<bool> {
    let options = SetOptions::default()
        .conditional_set(redis::ExistenceCheck::NX)
        .get(true)
        .with_expiration(SetExpiry::PX(millis(LEASE_TTL)));
    let holder: Option<String> = redis::AsyncCommands::set_options(connection, WORKER_LEASE, name, options).await?;
    Ok(holder.is_none_or(|holder| holder == name))
}

async fn renew(mut connection: Link, name: String, lost: CancellationToken, end: CancellationToken) {
    let mut valid_until = Instant::now() + LEASE_TTL;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep(RENEW_EVERY) => {}
        }
        let asked = Instant::now();
        let renewed = async {
            let renewed: RedisResult<i64> =
                RENEW.key(WORKER_LEASE).arg(&name).arg(millis(LEASE_TTL)).invoke_async(&mut connection).await;
            renewed
        };
        match timeout(LEASE_TTL, renewed).await {
            Ok(Ok(1)) => valid_until = asked + LEASE_TTL,
            // Redis does not answer. Nobody else can have taken the lease before its time is over.
            Ok(Err(_)) | Err(_) if Instant::now() < valid_until => {}
            Ok(Ok(_) | Err(_)) | Err(_) => return lost.cancel(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a lease lasts seconds")
}
