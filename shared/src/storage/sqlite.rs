//! The SQLite back end: one file on one machine, without a server.
//!
//! One connection writes, since a file has one writer; readers run beside it. SQLite has no arrays, so a list is one parameter
//! with JSON.

mod accounts;
mod commit;
mod dead_letters;
mod direct_rooms;
pub(super) mod head_positions;
mod history;
mod json_list;
pub(super) mod open;
mod positions;
mod rooms;
mod search;
mod sign_ins;
mod transaction;
mod user_keys;
mod user_rooms;

use std::path::PathBuf;

use async_trait::async_trait;

use super::connections::Connections;
use super::head_positions::backfill_positions;
use super::open::epoch_of;
use super::revocations::decode_revocations;
use super::senders::SenderCache;
use super::sql::installation::{BEGIN_EPOCH, PING, READ_EPOCH};
use super::sql::revocations::{COUNT_REVOCATIONS, LIST_REVOCATIONS};
use super::user_keys::backfill;
use super::{Backend, Installation, OpenError, Revocation, StoreError, Writers, run_detached};
use crate::domain::Epoch;

/// An open database file.
#[derive(Debug)]
pub(super) struct Sqlite {
    /// For reads other than the two below. Any number of readers run beside the writer.
    read: Connections<sqlx::Sqlite>,
    /// For pages of history alone.
    history: Connections<sqlx::Sqlite>,
    /// For the watch for revocations alone.
    watch: Connections<sqlx::Sqlite>,
    /// The one connection that writes.
    write: Connections<sqlx::Sqlite>,
    /// One connection for checkpoints, opened when it is first needed.
    checkpoints: Connections<sqlx::Sqlite>,
    senders: SenderCache,
    path: PathBuf,
}

#[async_trait]
impl Backend for Sqlite {
    async fn migrate(&self, partitions: u16, random_epoch: u64) -> Result<Installation, OpenError> {
        let installation = self.prepare(partitions, random_epoch).await?;
        backfill(self).await?;
        backfill_positions(self, &installation).await?;
        Ok(installation)
    }

    async fn epoch(&self) -> Result<(Epoch, i64), StoreError> {
        let (epoch, number): (i64, i64) = sqlx::query_as(READ_EPOCH).fetch_one(&self.read).await?;
        Ok((Epoch(epoch.cast_unsigned()), number))
    }

    async fn begin_epoch(&self, known: Epoch, number: i64, random: u64) -> Result<bool, StoreError> {
        self.senders.clear();
        let write = self.write.clone();
        run_detached(async move {
            let begin = sqlx::query(BEGIN_EPOCH).bind(epoch_of(random)).bind(number).bind(known.0.cast_signed());
            Ok(begin.execute(&write).await?.rows_affected() > 0)
        })
        .await
    }

    fn writers(&self) -> Writers {
        Writers::One
    }

    async fn revocation_count(&self) -> Result<i64, StoreError> {
        let count = sqlx::query_scalar(COUNT_REVOCATIONS).fetch_optional(&self.watch).await?;
        Ok(count.unwrap_or(0))
    }

    async fn revocations_between(&self, after: i64, upto: i64) -> Result<Option<Vec<Revocation>>, StoreError> {
        let rows = sqlx::query_as(LIST_REVOCATIONS).bind(after).bind(upto).fetch_all(&self.watch).await?;
        Ok(decode_revocations(rows, upto - after))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query(PING).execute(&self.read).await?;
        Ok(())
    }

    /// The first checkpoint runs beside readers and writers. A write during it keeps the log from starting over, so a long log is
    /// then truncated while writers are blocked, which is short since little is left to copy.
    async fn checkpoint(&self) -> Result<(), StoreError> {
        let (_, pages, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&self.checkpoints).await?;
        if pages >= open::LOG_PAGES {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.checkpoints).await?;
        }
        Ok(())
    }

    async fn close(&self) {
        self.read.close().await;
        self.history.close().await;
        self.watch.close().await;
        self.checkpoints.close().await;
        self.write.close().await;
    }
}
