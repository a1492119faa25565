//! Users and their sessions.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Postgres, run_detached, within_deadline};
use crate::domain::{Email, PublicId, SessionId, Timestamp, UserId, Username};
use crate::storage::accounts::{EXPIRED_AT_ONCE, SessionRow, check_crossing};
use crate::storage::sql::accounts as sql;
use crate::storage::{Account, Accounts, CreateUserError, NewUser, Session, StoreError, User};

#[async_trait]
impl Accounts for Postgres {
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, CreateUserError> {
        let pool = self.pool.clone();
        run_detached(async move {
            let mut tx = pool.begin().await?;
            if new.admin_if_first {
                // Of two users who register at the same time, only one becomes the admin.
                sqlx::query("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
            }
            let (name, id) = (new.username.key(), new.public_id.key());
            let crossing = sqlx::query_as(sql::COUNT_CROSSING_KEYS);
            check_crossing(crossing.bind(&name).bind(&id).fetch_one(&mut *tx).await?)?;
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
                .fetch_one(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(user)
        })
        .await
    }

    async fn account_by_email(&self, email: &Email) -> Result<Option<Account>, StoreError> {
        let query = sqlx::query_as(sql::ACCOUNT_BY_EMAIL).bind(email.as_str()).bind(email.key());
        Ok(within_deadline(query.fetch_optional(&self.pool)).await?)
    }

    async fn user_by_public_id(&self, public_id: &PublicId) -> Result<Option<User>, StoreError> {
        let query = sqlx::query_as(sql::USER_BY_PUBLIC_ID).bind(public_id.as_str());
        Ok(within_deadline(query.fetch_optional(&self.pool)).await?)
    }

    async fn user_ids(&self, usernames: &[String]) -> Result<HashMap<String, UserId>, StoreError> {
        let query = sqlx::query_as("SELECT username, id FROM users WHERE username = ANY ($1)").bind(usernames);
        let rows: Vec<(String, i64)> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(rows.into_iter().map(|(username, id)| (username, UserId(id))).collect())
    }

    async fn list_users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
        let query = sqlx::query_as(sql::LIST_USERS).bind(after).bind(i64::from(limit));
        Ok(within_deadline(query.fetch_all(&self.pool)).await?)
    }

    async fn replace_password_hash(&self, user: UserId, hash: String) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            sqlx::query(sql::SET_PASSWORD_HASH).bind(hash).bind(user.0).execute(&pool).await?;
            Ok(())
        })
        .await
    }

    async fn grant_admin(&self, username: &Username) -> Result<bool, StoreError> {
        let (pool, username) = (self.pool.clone(), username.clone());
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
        let pool = self.pool.clone();
        run_detached(async move {
            let mut tx = pool.begin().await?;
            // SKIP LOCKED: logins at other gateways delete the locked ones.
            sqlx::query(
                "DELETE FROM sessions WHERE id IN
                   (SELECT id FROM sessions WHERE expires_on < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            )
            .bind(now.0)
            .bind(i64::from(EXPIRED_AT_ONCE))
            .execute(&mut *tx)
            .await?;
            sqlx::query(sql::INSERT_SESSION)
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

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let query = sqlx::query_as(sql::UNREVOKED_SESSION).bind(id.0);
        let row: Option<SessionRow> = within_deadline(query.fetch_optional(&self.pool)).await?;
        Ok(row.map(Session::from))
    }

    async fn unrevoked_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query_scalar("SELECT id FROM sessions WHERE id = ANY ($1) AND revoked_on IS NULL").bind(ids);
        let open: Vec<Uuid> = within_deadline(query.fetch_all(&self.pool)).await?;
        Ok(open.into_iter().map(SessionId).collect())
    }

    async fn revoke_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        run_detached(async move {
            sqlx::query(sql::REVOKE_SESSION).bind(now.0).bind(id.0).execute(&pool).await?;
            Ok(())
        })
        .await
    }
}
