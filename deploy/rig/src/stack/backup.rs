//! Backs up the database with the tools that operators have, and restores it.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use uuid::Uuid;

use super::processes::{DATABASE, Stack};
use crate::failure::Result;

/// A copy of the database in a file of the back end's format.
pub struct Backup {
    file: PathBuf,
}

impl Stack {
    /// Copies the database as it is at one moment, while the services go on.
    pub async fn back_up(&self) -> Result<Backup> {
        let file = self.directory.path().join(format!("copy-{}", Uuid::new_v4().simple()));
        if let Some(postgres) = &self.postgres {
            postgres.dump(DATABASE, &file).await?;
        } else {
            let mut connection = SqliteConnectOptions::new().filename(self.database_file()).connect().await?;
            let copy = format!("VACUUM INTO '{}'", file.display());
            sqlx::query(AssertSqlSafe(copy)).execute(&mut connection).await?;
            connection.close().await?;
        }
        Ok(Backup { file })
    }

    /// Replaces the database, which nobody may have open, by a copy.
    pub async fn restore(&self, backup: &Backup) -> Result<()> {
        if let Some(postgres) = &self.postgres {
            return postgres.replace(DATABASE, &backup.file).await;
        }
        let file = self.database_file();
        for suffix in ["-wal", "-shm"] {
            let mut path = file.clone().into_os_string();
            path.push(suffix);
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        fs::copy(&backup.file, file)?;
        Ok(())
    }

    fn database_file(&self) -> PathBuf {
        self.database_url.trim_start_matches("sqlite://").into()
    }
}
