//! Users and their sessions.

use std::collections::HashSet;

use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

use super::Sqlite;
use crate::domain::{Email, PublicId, SessionId, Timestamp, UserId, Username};
use crate::storage::accounts::{EXPIRED_AT_ONCE, SessionRow, check_crossing};
use crate::storage::{Account, Accounts, CreateUserError, NewUser, Session, StoreError, User, run_detached};

#[async_trait]
impl Accounts for Sqlite {
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, CreateUserError> {
        let pool = self.write.clone();
        run_detached(async move {
            let (name, id) = (new.username.key(), new.public_id.key());
            let crossing = sqlx::query_as(
                "SELECT (SELECT COUNT(*) FROM users WHERE public_id_key = ?),
                        (SELECT COUNT(*) FROM users WHERE username_key = ?)",
            );
            check_crossing(crossing.bind(&name).bind(&id).fetch_one(&pool).await?)?;
            let user = sqlx::query_as(
                "INSERT INTO users (public_id, email, username, password_hash, is_admin, created_on, email_key, username_key,
                                    public_id_key)
                 VALUES (?, ?, ?, ?, ? AND NOT EXISTS (SELECT 1 FROM users), ?, ?, ?, ?)
                 RETURNING id, public_id, email, username, is_admin",
            )
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
        let found = sqlx::query_as(
            "SELECT id, public_id, email, username, is_admin, password_hash FROM users
                 WHERE email = ?1 OR email_key = ?2 ORDER BY email = ?1 DESC LIMIT 1",
        )
        .bind(email.as_str())
        .bind(email.key())
        .fetch_optional(&self.read)
        .await?;
        Ok(found)
    }

    async fn user_by_public_id(&self, public_id: &PublicId) -> Result<Option<User>, StoreError> {
        let found = sqlx::query_as("SELECT id, public_id, email, username, is_admin FROM users WHERE public_id = ?")
            .bind(public_id.as_str())
            .fetch_optional(&self.read)
            .await?;
        Ok(found)
    }

    async fn list_users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
        let users = sqlx::query_as(
            "SELECT id, public_id, email, username, is_admin FROM users WHERE public_id > ? ORDER BY public_id LIMIT +?",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        Ok(users)
    }

    async fn replace_password_hash(&self, user: UserId, hash: String) -> Result<(), StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?")
                .bind(hash)
                .bind(user.0)
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }

    async fn grant_admin(&self, username: &Username) -> Result<bool, StoreError> {
        let (pool, username) = (self.write.clone(), username.clone());
        run_detached(async move {
            let done = sqlx::query("UPDATE users SET is_admin = TRUE WHERE username = ?")
                .bind(username.as_str())
                .execute(&pool)
                .await?;
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
                sqlx::query("DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_on < ? LIMIT +?)")
                    .bind(now.0)
                    .bind(EXPIRED_AT_ONCE)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query("INSERT INTO sessions (id, user_id, expires_on) VALUES (?, ?, ?)")
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
        let row: Option<SessionRow> = sqlx::query_as(
            "SELECT u.id, u.public_id, u.email, u.username, u.is_admin, s.expires_on
             FROM sessions s JOIN users u ON u.id = s.user_id
             WHERE s.id = ? AND s.revoked_on IS NULL",
        )
        .bind(id.0)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.map(Session::from))
    }

    async fn unrevoked_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
        let open: Vec<(Uuid,)> = sqlx::query_as(
            "SELECT id FROM sessions
             WHERE id IN (SELECT unhex(j.value) FROM json_each(?) j) AND revoked_on IS NULL",
        )
        .bind(json!(ids).to_string())
        .fetch_all(&self.read)
        .await?;
        Ok(open.into_iter().map(|(id,)| SessionId(id)).collect())
    }

    async fn revoke_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        let pool = self.write.clone();
        run_detached(async move {
            sqlx::query("UPDATE sessions SET revoked_on = ? WHERE id = ? AND revoked_on IS NULL")
                .bind(now.0)
                .bind(id.0)
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }
}
