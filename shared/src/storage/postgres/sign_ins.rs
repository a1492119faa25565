//! Known networks and signing keys.

use async_trait::async_trait;

use super::{Postgres, run_detached, within_deadline};
use crate::domain::{Timestamp, UserId};
use crate::storage::sign_ins::{NETWORKS_KEPT, are_others, are_stored};
use crate::storage::sql::sign_ins as sql;
use crate::storage::{SignIns, StoreError};

#[async_trait]
impl SignIns for Postgres {
    async fn known_network(
        &self,
        user: UserId,
        network: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let query = sqlx::query_scalar(sql::KNOWN_NETWORK).bind(user.0).bind(network).bind(now.0);
        let found: Option<i64> = within_deadline(query.fetch_optional(&self.pool)).await?;
        Ok(found.map(Timestamp))
    }

    async fn remember_network(
        &self,
        user: UserId,
        network: String,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let mut tx = pool.begin().await?;
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
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    async fn agree_on_signing_keys(
        &self,
        fingerprints: Vec<String>,
        replace: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let known: Vec<String> =
            within_deadline(sqlx::query_scalar(sql::LIST_SIGNING_KEYS).fetch_all(&self.pool)).await?;
        if are_stored(&known, &fingerprints) {
            return Ok(true);
        }
        let pool = self.pool.clone();
        run_detached(async move {
            let mut tx = pool.begin().await?;
            // Gateways that start together wait here for each other.
            sqlx::query("SELECT 1 FROM installation FOR UPDATE").execute(&mut *tx).await?;
            let known: Vec<String> = sqlx::query_scalar(sql::LIST_SIGNING_KEYS).fetch_all(&mut *tx).await?;
            if !replace && are_others(&known, &fingerprints) {
                return Ok(false);
            }
            sqlx::query(sql::DELETE_SIGNING_KEYS).execute(&mut *tx).await?;
            sqlx::query("INSERT INTO signing_keys (fingerprint, added_on) SELECT UNNEST($1::text[]), $2")
                .bind(fingerprints)
                .bind(now.0)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}
