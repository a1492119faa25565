//! Runs statements on a pool: each one on a connection of its own, to its end.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::{Database, Describe, Either, Execute, Executor, SqlStr};

use super::{Connections, Poolable};

/// What a statement yields: its rows, and at its end a summary of what it changed.
type Step<DB> = Either<<DB as Database>::QueryResult, <DB as Database>::Row>;

impl<DB: Poolable> Connections<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    /// Runs a statement to its end.
    async fn run<'q, E: Execute<'q, DB> + 'q>(self, query: E) -> Result<Vec<Step<DB>>, sqlx::Error> {
        let mut connection = self.acquire().await?;
        let steps = connection.fetch_many(query).try_collect().await.map_err(|error| connection.record_loss(error))?;
        connection.release_healthy();
        Ok(steps)
    }
}

impl<'p, DB: Poolable> Executor<'p> for &'_ Connections<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;

    /// Collects all rows before it yields the first. Every statement bounds how many it reads.
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
