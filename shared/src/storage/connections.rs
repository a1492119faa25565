//! A pool of connections to one database, shared by all calls of a back end.
//!
//! The driver's own pool probes a connection before and after each use: of the four round trips that a statement took on
//! Postgres, three were probes, and on SQLite each is a switch to another thread. This pool probes a connection only when there
//! is a reason to doubt it: its last user was dropped or met an error, another connection was lost since, or it was idle for
//! [`TRUSTED_FOR`].
//!
//! A statement that is run on [`Connections`] always runs to its end, even if only its first row is wanted. A row arrives
//! before the statement that produces it ends, and a commit that finds no room on the disk fails after it.

mod executor;

use std::fmt::{self, Debug};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::error::DatabaseError;
use sqlx::{ConnectOptions as _, Connection, Database};

/// How long a healthy connection is used again without a probe. Under load none is probed; after a longer idle time the
/// server, or something on the way to it, may have closed it.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

/// How long a probe may take. A connection that takes longer is discarded.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Age at which a connection is replaced: a server keeps what each one has cached, and may have moved.
const MAX_AGE: Duration = Duration::from_mins(30);

/// The options that a database is connected to with.
type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// A database whose connections can be pooled.
pub(super) trait Poolable: Database {
    /// Whether the connection answers and is outside of any transaction. A caller that is dropped between the BEGIN and the
    /// COMMIT leaves one inside, and the writes of the next caller would be rolled back with it.
    fn is_healthy(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;
}

/// A pool of connections to one database. Clones share it.
pub(super) struct Connections<DB: Poolable>(managed::Pool<Opener<DB>>);

impl<DB: Poolable> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<DB: Poolable> Debug for Connections<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.0.status()).finish()
    }
}

/// Opens connections and decides which may be used again.
pub(super) struct Opener<DB: Poolable> {
    options: Options<DB>,
    /// How many connections were lost so far. Each loss makes all other connections doubtful.
    lost: Arc<AtomicU64>,
}

/// A connection in the pool.
pub(super) struct Pooled<DB: Poolable> {
    connection: DB::Connection,
    /// When its last use ended without an error, and how many connections had been lost by then.
    last_healthy: Option<(Instant, u64)>,
    lost: Arc<AtomicU64>,
}

impl<DB: Poolable> Manager for Opener<DB> {
    type Type = Pooled<DB>;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Pooled<DB>, sqlx::Error> {
        Ok(Pooled {
            // Boxed, since it is large and would be part of the future of every call.
            connection: Box::pin(self.options.connect()).await?,
            last_healthy: None,
            lost: Arc::clone(&self.lost),
        })
    }

    async fn recycle(&self, pooled: &mut Pooled<DB>, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if metrics.age() >= MAX_AGE {
            return Err(RecycleError::message("too old"));
        }
        let lost = self.lost.load(Ordering::Relaxed);
        let is_trusted = pooled.last_healthy.is_some_and(|(at, then)| then == lost && at.elapsed() < TRUSTED_FOR);
        if is_trusted || Box::pin(DB::is_healthy(&mut pooled.connection)).await? {
            Ok(())
        } else {
            Err(RecycleError::message("in a transaction"))
        }
    }
}

impl<DB: Poolable> Connections<DB> {
    /// Creates a pool of at most `size` connections, each of which is opened with `options` when it is first needed. A caller
    /// waits up to `acquire_timeout` for a free connection, and as long for one to open.
    pub(super) fn new(options: Options<DB>, size: usize, acquire_timeout: Duration) -> Self {
        let opener = Opener {
            options,
            lost: Arc::default(),
        };
        let pool = managed::Pool::builder(opener)
            .max_size(size)
            .wait_timeout(Some(acquire_timeout))
            .create_timeout(Some(acquire_timeout))
            .recycle_timeout(Some(PROBE_TIMEOUT))
            // The one that was used last needs no probe.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build();
        Self(pool.expect("time-outs are set together with a runtime"))
    }

    /// Takes a connection out of the pool. The caller calls [`PoolConnection::release_healthy`] if all went well; otherwise
    /// the connection is probed before its next use.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<DB>, sqlx::Error> {
        let mut pooled = self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => sqlx::Error::PoolClosed,
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                sqlx::Error::PoolTimedOut
            }
        })?;
        pooled.last_healthy = None;
        Ok(PoolConnection(pooled))
    }

    /// Closes the idle connections at once, and each of the others when it is returned.
    pub(super) async fn close(&self) {
        for pooled in self.0.retain(|_, _| false).removed {
            // The connection is not used again, so an error changes nothing.
            let _ = pooled.connection.close().await;
        }
        self.0.close();
    }
}

/// A connection in use by one caller.
pub(super) struct PoolConnection<DB: Poolable>(Object<Opener<DB>>);

impl<DB: Poolable> PoolConnection<DB> {
    /// Returns the connection as healthy: every statement on it ran to its end, and no transaction is open.
    pub(super) fn release_healthy(mut self) {
        let lost = self.0.lost.load(Ordering::Relaxed);
        self.0.last_healthy = Some((Instant::now(), lost));
    }

    /// Closes the connection.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        Object::take(self.0).connection.close().await
    }

    /// Drops the connection without a message to the server, which may be unreachable.
    pub(super) fn discard(self) {
        drop(Object::take(self.0));
    }

    /// Makes all other connections doubtful if `error` means that this one was lost. Returns the error.
    pub(super) fn record_loss(&self, error: sqlx::Error) -> sqlx::Error {
        let is_lost = match &error {
            sqlx::Error::Database(error) => is_shutdown(error.as_ref()),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
            _ => false,
        };
        if is_lost {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        error
    }
}

/// Whether the error is of Postgres's class 57P, operator intervention, such as a shutdown.
fn is_shutdown(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("57P"))
}

impl<DB: Poolable> Deref for PoolConnection<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.0.connection
    }
}

impl<DB: Poolable> DerefMut for PoolConnection<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.0.connection
    }
}
