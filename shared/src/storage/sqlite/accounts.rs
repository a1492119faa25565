//! Users and their sessions.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::Sqlite;
use super::json_list::json_list;
use crate::domain::{Email, PublicId, SessionId, Timestamp, UserId, Username};
use crate::storage::accounts::{EXPIRED_AT_ONCE, SessionRow, check_crossing};
use crate::storage::sql::accounts as sql;
use crate::storage::{Account, Accounts, CreateUserError, NewUser, Session, StoreError, User, run_detached};

#[async_trait]
impl Accounts for Sqlite {
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, CreateUserError> {
        let pool = self.write.clone();
        run_detached(async move {
            let (name, id) = (new.username.key(), new.public_id.key());
            let crossing = sqlx::query_as(sql::COUNT_CROSSING_KEYS);
            check_crossing(crossing.bind(&name).bind(&id).fetch_one(&pool).await?)?;
            let user = sqlx::query_as(sql::INSERT_USER)
                .bind(new.public_id.as_str())
                .bind(new.email.as_str())
                .bind(new.username.as_str())
                .bind(&new.password_hash)
                .bind(new.admin_if_first)
                .bind(now.0)
                .bind(new.email.key())
                .bind(name)
                .bind(id)
                .fetch_one(&pool)
                .await?;
            Ok(user)
        })
        .await
    }

    async fn account_by_email(&self, email: &Email) -> Result<Option<Account>, StoreError> {
        let found = sqlx::query_as(sql::ACCOUNT_BY_EMAIL)
            .bind(email.as_str())
            .bind(email.key())
            .fetch_optional(&self.read)
            .await?;
        Ok(found)
    }

    async fn user_by_public_id(&self, public_id: &PublicId) -> Result<Option<User>, StoreError> {
        let found = sqlx::query_as(sql::USER_BY_PUBLIC_ID).bind(public_id.as_str()).fetch_optional(&self.read).await?;
        Ok(found)
    }

    async fn user_ids(&self, usernames: &[String]) -> Result<HashMap<String, UserId>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT username, id FROM users WHERE username IN (SELECT j.value FROM json_each($1) j)")
                .bind(json_list(usernames)?)
                .fetch_all(&self.read)
                .await?;
        Ok(rows.into_iter().map(|(username, id)| (username, UserId(id))).collect())
    }

    async fn list_users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
        let users = sqlx::query_as(sql::LIST_USERS).bind(after).bind(limit).fetch_all(&self.read).await?;
        Ok(users)
    }

    async fn replace_password_hash(&self, user: UserId, hash: String) -> Result<(), StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            sqlx::query(sql::SET_PASSWORD_HASH).bind(hash).bind(user.0).execute(&pool).await?;
            Ok(())
        })
        .await
    }

    async fn grant_admin(&self, username: &Username) -> Result<bool, StoreError> {
        let (pool, username) = (self.write.clone(), username.clone());
        run_detached(async move {
            let done = sqlx::query(sql::GRANT_ADMIN).bind(username.as_str()).execute(&pool).await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn create_session(
        &self,
        id: SessionId,
        user: UserId,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction(move |tx| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_on < $1 LIMIT +$2)",
                )
                .bind(now.0)
                .bind(EXPIRED_AT_ONCE)
                .execute(&mut *tx)
                .await?;
                sqlx::query(sql::INSERT_SESSION)
                    .bind(id.0)
                    .bind(user.0)
                    .bind(expires_on.0)
                    .execute(&mut *tx)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let row: Option<SessionRow> =
            sqlx::query_as(sql::UNREVOKED_SESSION).bind(id.0).fetch_optional(&self.read).await?;
        Ok(row.map(Session::from))
    }

    async fn unrevoked_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        let ids = ids.iter().map(|id| id.0.simple().to_string());
        let open: Vec<(Uuid,)> = sqlx::query_as(
            "SELECT id FROM sessions
             WHERE id IN (SELECT unhex(j.value) FROM json_each($1) j) AND revoked_on IS NULL",
        )
        .bind(json_list(ids)?)
        .fetch_all(&self.read)
        .await?;
        Ok(open.into_iter().map(|(id,)| SessionId(id)).collect())
    }

    async fn revoke_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            sqlx::query(sql::REVOKE_SESSION).bind(now.0).bind(id.0).execute(&pool).await?;
            Ok(())
        })
        .await
    }
}
