//! Known networks and signing keys.

use async_trait::async_trait;

use super::Sqlite;
use crate::domain::{Timestamp, UserId};
use crate::storage::sign_ins::{NETWORKS_KEPT, are_others, are_stored};
use crate::storage::sql::sign_ins as sql;
use crate::storage::{SignIns, StoreError};

#[async_trait]
impl SignIns for Sqlite {
    async fn known_network(
        &self,
        user: UserId,
        network: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let found: Option<i64> = sqlx::query_scalar(sql::KNOWN_NETWORK)
            .bind(user.0)
            .bind(network)
            .bind(now.0)
            .fetch_optional(&self.read)
            .await?;
        Ok(found.map(Timestamp))
    }

    async fn remember_network(
        &self,
        user: UserId,
        network: String,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction(move |tx| {
            Box::pin(async move {
                sqlx::query(sql::UPSERT_NETWORK)
                    .bind(user.0)
                    .bind(network)
                    .bind(expires_on.0)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query(sql::DELETE_OLD_NETWORKS)
                    .bind(user.0)
                    .bind(now.0)
                    .bind(NETWORKS_KEPT)
                    .execute(&mut *tx)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn agree_on_signing_keys(
        &self,
        fingerprints: Vec<String>,
        replace: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let known: Vec<String> = sqlx::query_scalar(sql::LIST_SIGNING_KEYS).fetch_all(&self.read).await?;
        if are_stored(&known, &fingerprints) {
            return Ok(true);
        }
        self.transaction(move |tx| {
            Box::pin(async move {
                let known: Vec<String> = sqlx::query_scalar(sql::LIST_SIGNING_KEYS).fetch_all(&mut *tx).await?;
                if !replace && are_others(&known, &fingerprints) {
                    return Ok(false);
                }
                sqlx::query(sql::DELETE_SIGNING_KEYS).execute(&mut *tx).await?;
                for fingerprint in fingerprints {
                    sqlx::query("INSERT INTO signing_keys (fingerprint, added_on) VALUES ($1, $2)")
                        .bind(fingerprint)
                        .bind(now.0)
                        .execute(&mut *tx)
                        .await?;
                }
                Ok(true)
            })
        })
        .await
    }
}
