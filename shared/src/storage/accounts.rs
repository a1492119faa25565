//! Users and their sessions.

use std::collections::HashSet;

use serde_json::json;
use sqlx::FromRow;
use sqlx::error::DatabaseError;

use uuid::Uuid;

use super::{Store, StoreError, uninterrupted};
use crate::domain::{Email, PublicId, SessionId, Timestamp, UserId, Username};

/// A user as others may see it, e-mail aside.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct User {
    /// Row id.
    #[sqlx(try_from = "i64")]
    pub id: UserId,
    /// Name in URLs.
    pub public_id: String,
    /// E-mail: for the user and for admins only.
    pub email: String,
    /// Shown name.
    pub username: String,
    /// May see all users and delete any room.
    pub is_admin: bool,
}

/// A user with what proves who they are.
#[derive(Clone, FromRow)]
pub struct Account {
    /// The user.
    #[sqlx(flatten)]
    pub user: User,
    /// Hash of the password in PHC string format.
    pub password_hash: String,
}

/// What registration asks to keep.
#[derive(Clone)]
pub struct NewUser {
    /// Name in URLs.
    pub public_id: PublicId,
    /// E-mail.
    pub email: Email,
    /// Shown name.
    pub username: Username,
    /// Hash of the password in PHC string format.
    pub password_hash: String,
    /// Make this user an admin if no user exists yet.
    pub admin_if_first: bool,
}

/// Why a user was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateUserError {
    /// Another user has this e-mail.
    #[error("the e-mail is taken")]
    EmailTaken,
    /// Another user has this username.
    #[error("the username is taken")]
    UsernameTaken,
    /// Another user has this public id.
    #[error("the public id is taken")]
    PublicIdTaken,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreateUserError {
    fn from(error: sqlx::Error) -> Self {
        let message = error.as_database_error().filter(|e| e.is_unique_violation()).map(DatabaseError::message);
        // SQLite names the columns of a broken unique index, not the index.
        match message {
            Some(message) if message.contains("users.email") => Self::EmailTaken,
            Some(message) if message.contains("users.username") => Self::UsernameTaken,
            Some(message) if message.contains("users.public_id") => Self::PublicIdTaken,
            _ => Self::Store(StoreError(error)),
        }
    }
}

/// A login that was neither revoked nor removed when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who logged in.
    pub user: User,
    /// When it ends by itself.
    pub expires_on: Timestamp,
}

#[derive(FromRow)]
struct SessionRow {
    #[sqlx(flatten)]
    user: User,
    expires_on: i64,
}

impl From<i64> for UserId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl Store {
    /// Creates a user.
    pub async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, CreateUserError> {
        let pool = self.write.clone();
        uninterrupted(async move {
            let user = sqlx::query_as(
                "INSERT INTO users (public_id, email, username, password_hash, is_admin, created_on)
                 VALUES (?, ?, ?, ?, ? AND NOT EXISTS (SELECT 1 FROM users), ?)
                 RETURNING id, public_id, email, username, is_admin",
            )
            .bind(new.public_id.as_str())
            .bind(new.email.as_str())
            .bind(new.username.as_str())
            .bind(&new.password_hash)
            .bind(new.admin_if_first)
            .bind(now.0)
            .fetch_one(&pool)
            .await?;
            Ok(user)
        })
        .await
    }

    /// The account that logs in with `email`.
    pub async fn account_by_email(&self, email: &Email) -> Result<Option<Account>, StoreError> {
        let found =
            sqlx::query_as("SELECT id, public_id, email, username, is_admin, password_hash FROM users WHERE email = ?")
                .bind(email.as_str())
                .fetch_optional(&self.read)
                .await?;
        Ok(found)
    }

    /// The user with this public id.
    pub async fn user_by_public_id(&self, public_id: &PublicId) -> Result<Option<User>, StoreError> {
        let found = sqlx::query_as("SELECT id, public_id, email, username, is_admin FROM users WHERE public_id = ?")
            .bind(public_id.as_str())
            .fetch_optional(&self.read)
            .await?;
        Ok(found)
    }

    /// Users sorted by public id, from the one behind `after`, at most `limit`.
    pub async fn list_users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
        let users = sqlx::query_as(
            "SELECT id, public_id, email, username, is_admin FROM users WHERE public_id > ? ORDER BY public_id LIMIT ?",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        Ok(users)
    }

    /// Replaces a password hash by one made with stronger parameters.
    pub async fn replace_password_hash(&self, user: UserId, hash: String) -> Result<(), StoreError> {
        let pool = self.write.clone();
        uninterrupted(async move {
            sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?")
                .bind(hash)
                .bind(user.0)
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }

    /// Makes the user with this username an admin; false if there is none.
    pub async fn grant_admin(&self, username: &Username) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE users SET is_admin = TRUE WHERE username = ?")
            .bind(username.as_str())
            .execute(&self.write)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Opens a session, and removes some that have expired.
    pub async fn create_session(
        &self,
        id: SessionId,
        user: UserId,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let pool = self.write.clone();
        uninterrupted(async move {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
            // More than are opened, so that they do not pile up, and few enough not to hold up a login.
            sqlx::query("DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_on < ? LIMIT 20)")
                .bind(now.0)
                .execute(&mut *tx)
                .await?;
            sqlx::query("INSERT INTO sessions (id, user_id, expires_on) VALUES (?, ?, ?)")
                .bind(id.0)
                .bind(user.0)
                .bind(expires_on.0)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// The session, unless it was revoked or never existed. Its expiry is the caller's to check.
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let row: Option<SessionRow> = sqlx::query_as(
            "SELECT u.id, u.public_id, u.email, u.username, u.is_admin, s.expires_on
             FROM sessions s JOIN users u ON u.id = s.user_id
             WHERE s.id = ? AND s.revoked_on IS NULL",
        )
        .bind(id.0)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.map(|row| Session {
            user: row.user,
            expires_on: Timestamp(row.expires_on),
        }))
    }

    /// Those of `ids` that were not revoked.
    pub async fn open_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
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

    /// Ends a session for good.
    pub async fn revoke_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        let pool = self.write.clone();
        uninterrupted(async move {
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
