//! Keys of users whom an earlier release has created without them.

use std::collections::HashSet;

use sqlx::error::DatabaseError;

use super::{Postgres, run_detached, within_deadline};
use crate::storage::StoreError;
use crate::storage::sql::user_keys as sql;
use crate::storage::user_keys::{NewKeys, UserKeys, UserWithoutKey};

impl UserKeys for Postgres {
    async fn users_without_key(&self, after: i64, limit: u32) -> Result<Vec<UserWithoutKey>, StoreError> {
        let query = sqlx::query_as(sql::LIST_USERS_WITHOUT_KEY).bind(after).bind(i64::from(limit));
        Ok(within_deadline(query.fetch_all(&self.pool)).await?)
    }

    async fn taken(&self, keys: [Vec<String>; 3]) -> Result<[HashSet<String>; 3], StoreError> {
        let statements = [
            "SELECT email_key FROM users WHERE email_key = ANY ($1)",
            "SELECT username_key FROM users WHERE username_key = ANY ($1)",
            "SELECT public_id_key FROM users WHERE public_id_key = ANY ($1)",
        ];
        let mut taken: [HashSet<String>; 3] = Default::default();
        for ((taken, statement), keys) in taken.iter_mut().zip(statements).zip(keys) {
            let query = sqlx::query_scalar::<_, String>(statement).bind(keys);
            taken.extend(within_deadline(query.fetch_all(&self.pool)).await?);
        }
        Ok(taken)
    }

    async fn set_keys(&self, keys: &[NewKeys]) -> Result<bool, StoreError> {
        let (pool, keys) = (self.pool.clone(), keys.to_vec());
        let written = run_detached(async move {
            let ids: Vec<i64> = keys.iter().map(|keys| keys.id).collect();
            let all = |key: fn(&NewKeys) -> &Option<String>| keys.iter().map(|keys| key(keys).clone()).collect();
            let emails: Vec<Option<String>> = all(|keys| &keys.email);
            let usernames: Vec<Option<String>> = all(|keys| &keys.username);
            let public_ids: Vec<Option<String>> = all(|keys| &keys.public_id);
            sqlx::query(
                "UPDATE users SET email_key = COALESCE(users.email_key, t.email_key),
                                  username_key = COALESCE(users.username_key, t.username_key),
                                  public_id_key = COALESCE(users.public_id_key, t.public_id_key)
                 FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[])
                      AS t (id, email_key, username_key, public_id_key)
                 WHERE users.id = t.id",
            )
            .bind(ids)
            .bind(emails)
            .bind(usernames)
            .bind(public_ids)
            .execute(&pool)
            .await
            .map_err(StoreError)
        });
        match written.await {
            Ok(_) => Ok(true),
            Err(StoreError(error)) if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
