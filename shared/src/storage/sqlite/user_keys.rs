//! Keys of users whom an earlier release has created without them.

use std::collections::HashSet;

use sqlx::error::DatabaseError;

use super::Sqlite;
use super::json_list::json_list;
use crate::storage::sql::user_keys as sql;
use crate::storage::user_keys::{NewKeys, UserKeys, UserWithoutKey};
use crate::storage::{StoreError, run_detached};

impl UserKeys for Sqlite {
    async fn users_without_key(&self, after: i64, limit: u32) -> Result<Vec<UserWithoutKey>, StoreError> {
        let users = sqlx::query_as(sql::LIST_USERS_WITHOUT_KEY).bind(after).bind(limit).fetch_all(&self.read).await?;
        Ok(users)
    }

    async fn taken(&self, keys: [Vec<String>; 3]) -> Result<[HashSet<String>; 3], StoreError> {
        let statements = [
            "SELECT email_key FROM users WHERE email_key IN (SELECT j.value FROM json_each($1) j)",
            "SELECT username_key FROM users WHERE username_key IN (SELECT j.value FROM json_each($1) j)",
            "SELECT public_id_key FROM users WHERE public_id_key IN (SELECT j.value FROM json_each($1) j)",
        ];
        let mut taken: [HashSet<String>; 3] = Default::default();
        for ((taken, statement), keys) in taken.iter_mut().zip(statements).zip(keys) {
            let found: Vec<String> = sqlx::query_scalar(statement).bind(json_list(keys)?).fetch_all(&self.read).await?;
            taken.extend(found);
        }
        Ok(taken)
    }

    async fn set_keys(&self, keys: &[NewKeys]) -> Result<bool, StoreError> {
        let pool = self.write.clone();
        let rows = keys.iter().map(|keys| (keys.id, &keys.email, &keys.username, &keys.public_id));
        let rows = json_list(rows)?;
        let written = run_detached(async move {
            sqlx::query(
                "UPDATE users SET email_key = COALESCE(email_key, j.value ->> 1),
                                  username_key = COALESCE(username_key, j.value ->> 2),
                                  public_id_key = COALESCE(public_id_key, j.value ->> 3)
                 FROM json_each($1) j WHERE users.id = j.value ->> 0",
            )
            .bind(rows)
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
