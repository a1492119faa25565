//! A look into the database from outside, past the services.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::{Failure, Result};

/// The SQLite file of a stack, opened for reading.
pub struct Database {
    connection: SqliteConnection,
}

impl Database {
    pub(crate) async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let connection = options.connect().await?;
        Ok(Self { connection })
    }

    /// Fails with SQLite's own findings when the file is damaged.
    pub async fn check_integrity(&mut self) -> Result<()> {
        let findings: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut self.connection).await?;
        if findings == ["ok"] {
            Ok(())
        } else {
            Err(Failure::new(format!("the database is damaged: {}", findings.join("; "))))
        }
    }

    /// How many accepted entries were set aside because they could not be stored.
    pub async fn dead_letters(&mut self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM dead_letters").fetch_one(&mut self.connection).await?)
    }

    /// The owner of each partition and how often it changed.
    pub async fn owners(&mut self) -> Result<Vec<(String, i64)>> {
        let owners = sqlx::query_as("SELECT owner, fence FROM cursors ORDER BY partition");
        Ok(owners.fetch_all(&mut self.connection).await?)
    }

    /// Closes the connection, so that a service may checkpoint the file.
    pub async fn close(self) -> Result<()> {
        Ok(self.connection.close().await?)
    }
}
