//! The Postgres back end: gateways and workers on any number of hosts share one server.
//!
//! - A list is one parameter that is an array, one per column.
//! - A commit first locks the rows of its partitions in `cursors`, in ascending order. Everything else that a worker writes
//!   depends on them, since a room belongs to one partition. So workers never wait for each other anywhere else, and the positions
//!   of a partition grow from commit to commit.
//! - The server ends the transaction of a worker that is paused or cut off: see [`open`]. Where it does not, the worker that
//!   claims its partitions does: see [`claim`].
//! - Every call has a deadline: see [`within_deadline`].

mod accounts;
mod claim;
mod commit;
mod cursors;
mod dead_letters;
mod direct_rooms;
pub(super) mod head_positions;
mod history;
pub(super) mod open;
mod positions;
mod rooms;
mod search;
mod sign_ins;
mod transaction;
mod user_keys;
mod user_rooms;

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use tokio::time::timeout;

use super::connections::Connections;
use super::head_positions::backfill_positions;
use super::open::epoch_of;
use super::revocations::decode_revocations;
use super::senders::SenderCache;
use super::sql::installation::{BEGIN_EPOCH, PING, READ_EPOCH};
use super::sql::revocations::{COUNT_REVOCATIONS, LIST_REVOCATIONS};
use super::user_keys::backfill;
use super::{Backend, Installation, OpenError, Revocation, StoreError, Writers};
use crate::domain::Epoch;

/// How long a call may take, from its first statement to its last. A server that became unreachable does not say so: without
/// this, a call would hang until the network stack gives up, after a quarter of an hour.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to one server.
#[derive(Debug)]
pub(super) struct Postgres {
    pool: Connections<sqlx::Postgres>,
    /// For pages of history alone.
    history: Connections<sqlx::Postgres>,
    /// For the watch for revocations alone.
    watch: Connections<sqlx::Postgres>,
    /// Options without the time-outs of the pools' connections, which a migration may exceed.
    migration_options: PgConnectOptions,
    senders: SenderCache,
}

#[async_trait]
impl Backend for Postgres {
    async fn migrate(&self, partitions: u16, random_epoch: u64) -> Result<Installation, OpenError> {
        let installation = self.prepare(partitions, random_epoch).await?;
        backfill(self).await?;
        backfill_positions(self, &installation).await?;
        Ok(installation)
    }

    async fn epoch(&self) -> Result<(Epoch, i64), StoreError> {
        let query = sqlx::query_as(READ_EPOCH);
        let (epoch, number): (i64, i64) = within_deadline(query.fetch_one(&self.pool)).await?;
        Ok((Epoch(epoch.cast_unsigned()), number))
    }

    async fn begin_epoch(&self, known: Epoch, number: i64, random: u64) -> Result<bool, StoreError> {
        self.senders.clear();
        let pool = self.pool.clone();
        run_detached(async move {
            let begin = sqlx::query(BEGIN_EPOCH).bind(epoch_of(random)).bind(number).bind(known.0.cast_signed());
            Ok::<_, StoreError>(begin.execute(&pool).await?.rows_affected() > 0)
        })
        .await
    }

    fn writers(&self) -> Writers {
        Writers::Many
    }

    async fn revocation_count(&self) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar(COUNT_REVOCATIONS);
        let count: Option<i64> = within_deadline(query.fetch_optional(&self.watch)).await?;
        Ok(count.unwrap_or(0))
    }

    async fn revocations_between(&self, after: i64, upto: i64) -> Result<Option<Vec<Revocation>>, StoreError> {
        let query = sqlx::query_as(LIST_REVOCATIONS).bind(after).bind(upto);
        let rows = within_deadline(query.fetch_all(&self.watch)).await?;
        Ok(decode_revocations(rows, upto - after))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        within_deadline(sqlx::query(PING).execute(&self.pool)).await?;
        Ok(())
    }

    async fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {
        // The process stops, so it does not matter if the server is unreachable.
        let closing = async { tokio::join!(self.pool.close(), self.history.close(), self.watch.close()) };
        let _ = timeout(CALL_TIMEOUT, closing).await;
    }
}

/// Fails if a call takes longer than [`CALL_TIMEOUT`]. Whether a write was committed is then unknown. Its connection is probed
/// before its next use.
async fn within_deadline<T, E: From<sqlx::Error>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        let silent = io::Error::new(io::ErrorKind::TimedOut, "the database has not answered in time");
        Err(E::from(sqlx::Error::Io(silent)))
    })
}

/// Runs a write in a task of its own until it ends or its deadline passes, even if the caller is dropped.
async fn run_detached<T, E, F>(write: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<sqlx::Error> + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    super::run_detached(within_deadline(write)).await
}
