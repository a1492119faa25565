//! The connections of a back end, shared by its calls.
//!
//! The driver's own pool asks a connection whether it lives before each use and again after it: of four round trips for a
//! statement on Postgres three were questions, and on SQLite each is a change of threads. Here a connection is asked only when there
//! is a reason to doubt it: the one who used it last was cut off or met an error, a connection beside it was lost, or nobody
//! has used it for [`TRUSTED_FOR`].
//!
//! A statement that is run on [`Connections`] is driven to its end, also where its first row is all that is wanted. A row comes
//! before the end of the statement that makes it, and a commit without room on the disk fails after it.

use std::fmt::{self, Debug};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::error::DatabaseError;
use sqlx::{ConnectOptions as _, Connection, Database, Describe, Either, Execute, Executor, SqlStr};

/// How long a connection in order is taken for that without being asked. Under load none is asked; one that was not used for
/// longer may have been closed by the server, or by something on the way to it.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

/// How long a connection may take to show that it is in order; then it is thrown away.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Age at which a connection makes room for another one: a server keeps what each has cached, and may have moved.
const MAX_AGE: Duration = Duration::from_mins(30);

/// The options that a database is connected to with.
type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// A database whose connections are shared.
pub(super) trait Shared: Database {
    /// True if the connection answers and is in no transaction, as one is whose caller was cut off in the middle of a BEGIN: the
    /// next caller's writes would be rolled back with it.
    fn is_in_order(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;
}

/// Connections to one database. Clones share them.
pub(super) struct Connections<DB: Shared>(managed::Pool<Opener<DB>>);

impl<DB: Shared> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<DB: Shared> Debug for Connections<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.0.status()).finish()
    }
}

/// Opens connections, and decides which may be used again.
pub(super) struct Opener<DB: Shared> {
    options: Options<DB>,
    /// How many connections were lost so far: each makes all others doubtful.
    lost: Arc<AtomicU64>,
}

/// A connection in the pool.
pub(super) struct Pooled<DB: Shared> {
    connection: DB::Connection,
    /// When its last use ended well, and how many connections had been lost by then.
    settled: Option<(Instant, u64)>,
    lost: Arc<AtomicU64>,
}

impl<DB: Shared> Manager for Opener<DB> {
    type Type = Pooled<DB>;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Pooled<DB>, sqlx::Error> {
        Ok(Pooled {
            // Boxed: it is large, and would be part of every call.
            connection: Box::pin(self.options.connect()).await?,
            settled: None,
            lost: Arc::clone(&self.lost),
        })
    }

    async fn recycle(&self, pooled: &mut Pooled<DB>, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if metrics.age() >= MAX_AGE {
            return Err(RecycleError::message("too old"));
        }
        let lost = self.lost.load(Ordering::Relaxed);
        let is_trusted = pooled.settled.is_some_and(|(at, then)| then == lost && at.elapsed() < TRUSTED_FOR);
        if is_trusted || Box::pin(DB::is_in_order(&mut pooled.connection)).await? {
            Ok(())
        } else {
            Err(RecycleError::message("in a transaction"))
        }
    }
}

impl<DB: Shared> Connections<DB> {
    /// At most `size` connections opened with `options`, each when it is needed. Callers wait for up to `acquire_timeout` for one,
    /// and as long for it to be opened.
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
            // The one that was used last needs no question.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build();
        Self(pool.expect("time-outs are set together with a runtime"))
    }

    /// A connection of one's own for some time. Call [`Lease::settle`] when all went well, or it is asked before it is used again.
    pub(super) async fn acquire(&self) -> Result<Lease<DB>, sqlx::Error> {
        let mut pooled = self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => sqlx::Error::PoolClosed,
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                sqlx::Error::PoolTimedOut
            }
        })?;
        pooled.settled = None;
        Ok(Lease(pooled))
    }

    /// Closes the connections that nobody uses, and the others when they come back.
    pub(super) async fn close(&self) {
        for pooled in self.0.retain(|_, _| false).removed {
            // It is not used again, whatever it says.
            let _ = pooled.connection.close().await;
        }
        self.0.close();
    }
}

/// A connection in use.
pub(super) struct Lease<DB: Shared>(Object<Opener<DB>>);

impl<DB: Shared> Lease<DB> {
    /// Gives the connection back as one that is in order: every statement on it was driven to its end, and no transaction is open.
    pub(super) fn settle(mut self) {
        let lost = self.0.lost.load(Ordering::Relaxed);
        self.0.settled = Some((Instant::now(), lost));
    }

    /// Closes the connection.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        Object::take(self.0).connection.close().await
    }

    /// Closes the connection without a word to a server that may not be there.
    pub(super) fn discard(self) {
        drop(Object::take(self.0));
    }

    /// Makes the other connections doubtful if `error` says that this one was lost.
    pub(super) fn note(&self, error: sqlx::Error) -> sqlx::Error {
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

/// Class 57 of Postgres's codes: operator intervention, such as a shutdown.
fn is_shutdown(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("57P"))
}

impl<DB: Shared> Deref for Lease<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.0.connection
    }
}

impl<DB: Shared> DerefMut for Lease<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.0.connection
    }
}

/// What a statement yields: rows, and at its end what it changed.
type Step<DB> = Either<<DB as Database>::QueryResult, <DB as Database>::Row>;

impl<DB: Shared> Connections<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    /// Runs a statement to its end.
    async fn run<'q, E: Execute<'q, DB> + 'q>(self, query: E) -> Result<Vec<Step<DB>>, sqlx::Error> {
        let mut lease = self.acquire().await?;
        let steps = lease.fetch_many(query).try_collect().await.map_err(|error| lease.note(error))?;
        lease.settle();
        Ok(steps)
    }
}

impl<'p, DB: Shared> Executor<'p> for &'_ Connections<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;

    /// All of it at once: what is read here is bounded.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step<DB>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let steps = self.clone().run(query).map_ok(|steps| stream::iter(steps.into_iter().map(Ok)));
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<DB::Row>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let steps = self.clone().run(query);
        async move { Ok(steps.await?.into_iter().find_map(Either::right)) }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, sqlx::Error>>
    where
        'p: 'e,
    {
        let this = self.clone();
        async move { this.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, sqlx::Error>>
    where
        'p: 'e,
    {
        let this = self.clone();
        async move { this.acquire().await?.describe(sql).await }.boxed()
    }
}
