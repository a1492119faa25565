//! Transactions on the one connection that writes.

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};

use super::Sqlite;
use crate::storage::connections::Connections;
use crate::storage::run_detached;

impl Sqlite {
    /// Runs `work` in a transaction and commits it, even if the caller is dropped. If anything fails, nothing is stored.
    pub(super) async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<sqlx::Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        run_detached(run(self.write.clone(), work)).await
    }
}

/// Runs a transaction, and uses its connection again only if the transaction is known to have ended.
///
/// When a write finds no room (`SQLITE_FULL`, `SQLITE_IOERR`), SQLite may roll back by itself
/// (<https://sqlite.org/lang_transaction.html>, section 3). The ROLLBACK of sqlx then has nothing to end, and sqlx counts the
/// transaction as open for ever: it would refuse every later one, long after there is room again. Such a connection is closed,
/// which rolls back what is still open.
async fn run<T, E, F>(pool: Connections<sqlx::Sqlite>, work: F) -> Result<T, E>
where
    E: From<sqlx::Error>,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>>,
{
    let mut connection = pool.acquire().await?;
    // IMMEDIATE: a transaction that begins with a read is refused when it comes to write while another one does.
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
        // An error here has the same cause and adds nothing.
        let _ = connection.close().await;
    }
    outcome
}
