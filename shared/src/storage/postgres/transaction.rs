//! Transactions that roll back when they are dropped.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::{PgConnection, Postgres};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::storage::connections::{Connections, PoolConnection};

/// How long a rollback may take. Then the connection is closed, which rolls back as well.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);

/// A transaction on a connection of its own. If it is dropped before its commit, it is rolled back at once, so that nobody
/// waits for its locks.
pub(super) struct Transaction(Option<PoolConnection<Postgres>>);

impl Connections<Postgres> {
    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        let mut transaction = Transaction(Some(self.acquire().await?));
        transaction.run("BEGIN").await?;
        Ok(transaction)
    }
}

impl Transaction {
    /// Commits the transaction.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.run("COMMIT").await?;
        if let Some(connection) = self.0.take() {
            connection.release_healthy();
        }
        Ok(())
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let done = sqlx::raw_sql(statement).execute(&mut **self).await;
        done.map(drop).map_err(|error| match &self.0 {
            Some(connection) => connection.record_loss(error),
            None => error,
        })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // Without a runtime the process is about to end, and its connections with it.
        let (Some(mut connection), Ok(runtime)) = (self.0.take(), Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            match timeout(ROLLBACK_TIMEOUT, sqlx::raw_sql("ROLLBACK").execute(&mut *connection)).await {
                Ok(Ok(_)) => connection.release_healthy(),
                Ok(Err(_)) | Err(_) => connection.discard(),
            }
        });
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect("only the end of the transaction removes it")
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("only the end of the transaction removes it")
    }
}
