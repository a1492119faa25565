//! Users and their sessions.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::FromRow;

use super::StoreError;
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
    /// Another user has this e-mail, in some spelling.
    #[error("the e-mail is taken")]
    EmailTaken,
    /// Another user has this username or public id, or one that is drawn alike.
    #[error("the username is taken")]
    UsernameTaken,
    /// Another user has this public id or username, or one that is drawn alike.
    #[error("the public id is taken")]
    PublicIdTaken,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreateUserError {
    fn from(error: sqlx::Error) -> Self {
        let violation = error.as_database_error().filter(|e| e.is_unique_violation());
        // Postgres names the broken unique index; SQLite names its columns, in the message.
        let broken = violation.map(|violation| violation.constraint().unwrap_or_else(|| violation.message()));
        // Each column has a twin, its key, whose names begin with the same.
        let is_of =
            |index: &str, column: &str| broken.is_some_and(|name| name.starts_with(index) || name.contains(column));
        if is_of("users_email", "users.email") {
            Self::EmailTaken
        } else if is_of("users_username", "users.username") {
            Self::UsernameTaken
        } else if is_of("users_public_id", "users.public_id") {
            Self::PublicIdTaken
        } else {
            Self::Store(StoreError(error))
        }
    }
}

/// What of a new user's username and public id is another's public id or username.
pub(super) fn check_crossing((public_ids, usernames): (i64, i64)) -> Result<(), CreateUserError> {
    match (public_ids, usernames) {
        (0, 0) => Ok(()),
        (0, _) => Err(CreateUserError::PublicIdTaken),
        _ => Err(CreateUserError::UsernameTaken),
    }
}

/// Expired sessions that opening one removes: more than are opened, so that they do not pile up, and few enough not to hold
/// up a login.
pub(super) const EXPIRED_AT_ONCE: u32 = 20;

/// A login that was neither revoked nor removed when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who logged in.
    pub user: User,
    /// When it ends by itself.
    pub expires_on: Timestamp,
}

/// A row that holds a [`Session`].
#[derive(FromRow)]
pub(super) struct SessionRow {
    #[sqlx(flatten)]
    user: User,
    expires_on: i64,
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            user: row.user,
            expires_on: Timestamp(row.expires_on),
        }
    }
}

impl From<i64> for UserId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

/// What is kept about users and their sessions.
#[async_trait]
pub trait Accounts {
    /// Creates a user whose e-mail, username and public id are like nobody else's, by their keys.
    ///
    /// A username and the public id of another must differ too, since a path takes either. That alone is looked up and not
    /// held by an index: of two who register in the same moment both may pass.
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, CreateUserError>;

    /// The account that logs in with `email`: the one registered under this spelling, else the one that has its key.
    async fn account_by_email(&self, email: &Email) -> Result<Option<Account>, StoreError>;

    /// The user with this public id.
    async fn user_by_public_id(&self, public_id: &PublicId) -> Result<Option<User>, StoreError>;

    /// Users sorted by public id, from the one behind `after`, at most `limit`.
    async fn list_users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError>;

    /// Replaces a password hash by one made with stronger parameters.
    async fn replace_password_hash(&self, user: UserId, hash: String) -> Result<(), StoreError>;

    /// Makes the user with this username an admin; false if there is none.
    async fn grant_admin(&self, username: &Username) -> Result<bool, StoreError>;

    /// Opens a session, and removes some that have expired.
    async fn create_session(
        &self,
        id: SessionId,
        user: UserId,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// The session, unless it was revoked or never existed. Its expiry is the caller's to check.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Those of `ids` that were not revoked.
    async fn unrevoked_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError>;

    /// Ends a session for good.
    async fn revoke_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError>;
}
