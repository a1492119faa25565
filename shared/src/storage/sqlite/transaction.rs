//! Transactions of the one connection that writes.

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};

use super::Sqlite;
use crate::storage::connections::Connections;
use crate::storage::run_detached;

impl Sqlite {
    /// Runs `work` in a transaction and commits it, even if nobody waits for that any more; if anything fails, nothing of it
    /// is kept.
    pub(super) async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<sqlx::Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        run_detached(run(self.write.clone(), work)).await
    }
}

/// A connection is used again only if its transaction is known to be over. When a write finds no room (`SQLITE_FULL`,
/// `SQLITE_IOERR`), SQLite may roll back by itself (<https://sqlite.org/lang_transaction.html>, section 3), and sqlx, whose
/// own ROLLBACK then has nothing to end, counts the transaction as open for ever: every later one would be refused, long
/// after there is room again. Such a connection is closed, which rolls back what is still open.
async fn run<T, E, F>(pool: Connections<sqlx::Sqlite>, work: F) -> Result<T, E>
where
    E: From<sqlx::Error>,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>>,
{
    let mut connection = pool.acquire().await?;
    // IMMEDIATE: a transaction that begins by reading is refused when it comes to write beside another one.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (outcome, is_over) = match work(&mut tx).await {
        Ok(done) => match tx.commit().await {
            Ok(()) => (Ok(done), true),
            Err(error) => (Err(E::from(error)), false),
        },
        Err(error) => (Err(error), tx.rollback().await.is_ok()),
    };
    if is_over {
        connection.release_healthy();
    } else {
        // Its own failure has the same cause and tells nothing new.
        let _ = connection.close().await;
    }
    outcome
}
