//! Users and their sessions.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::FromRow;

use super::StoreError;
use crate::domain::{Email, PublicId, SessionId, Timestamp, UserId, Username};

/// A user. Others may see all of it but the e-mail.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct User {
    /// Row id.
    #[sqlx(try_from = "i64")]
    pub id: UserId,
    /// Name in URLs.
    pub public_id: String,
    /// E-mail, visible to the user and to admins only.
    pub email: String,
    /// Display name.
    pub username: String,
    /// May see all users and delete any room.
    pub is_admin: bool,
}

/// A user with the credentials that prove their identity.
#[derive(Clone, FromRow)]
pub struct Account {
    /// The user.
    #[sqlx(flatten)]
    pub user: User,
    /// Hash of the password in PHC string format.
    pub password_hash: String,
}

/// A user to be created.
#[derive(Clone)]
pub struct NewUser {
    /// Name in URLs.
    pub public_id: PublicId,
    /// E-mail.
    pub email: Email,
    /// Display name.
    pub username: Username,
    /// Hash of the password in PHC string format.
    pub password_hash: String,
    /// Make this user an admin if no user exists yet.
    pub admin_if_first: bool,
}

#[cfg(any(test, feature = "testing"))]
impl NewUser {
    /// A user who has `name` as public id, e-mail and username, and a password that nobody knows.
    ///
    /// # Panics
    ///
    /// Panics if `name` is not valid as each of them.
    #[must_use]
    pub fn for_tests(name: &str) -> Self {
        let valid = "the name is valid as each of them";
        Self {
            public_id: PublicId::parse(name).expect(valid),
            email: Email::parse(name, false).expect(valid),
            username: Username::parse(name).expect(valid),
            password_hash: "hash".to_owned(),
            admin_if_first: false,
        }
    }
}

/// Why a user was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateUserError {
    /// Another user has this e-mail, in this or another spelling.
    #[error("the e-mail is taken")]
    EmailTaken,
    /// Another user has this name as username or public id, or one that looks the same.
    #[error("the username is taken")]
    UsernameTaken,
    /// Another user has this id as public id or username, or one that looks the same.
    #[error("the public id is taken")]
    PublicIdTaken,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreateUserError {
    fn from(error: sqlx::Error) -> Self {
        let violation = error.as_database_error().filter(|e| e.is_unique_violation());
        // Postgres names the violated unique index; SQLite names its columns in the message.
        let broken = violation.map(|violation| violation.constraint().unwrap_or_else(|| violation.message()));
        // Each column has a key column, and their names and indexes start the same.
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

/// Fails if another user has the new username as public id, or the new public id as username, given how many do.
pub(super) fn check_crossing((public_ids, usernames): (i64, i64)) -> Result<(), CreateUserError> {
    match (public_ids, usernames) {
        (0, 0) => Ok(()),
        (0, _) => Err(CreateUserError::PublicIdTaken),
        _ => Err(CreateUserError::UsernameTaken),
    }
}

/// Expired sessions that are deleted when one is created: more than one, so that they do not accumulate, and few, so that
/// they do not delay the login.
pub(super) const EXPIRED_AT_ONCE: u32 = 20;

/// A login that was neither revoked nor deleted when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who logged in.
    pub user: User,
    /// When it expires.
    pub expires_on: Timestamp,
}

/// The row of a [`Session`].
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

/// Users and their sessions.
#[async_trait]
pub trait Accounts {
    /// Creates a user whose e-mail, username and public id differ from those of every other user, compared by their keys.
    ///
    /// A username must also differ from the public ids of others, since a path takes either. A query checks that alone, and no
    /// index does: of two users who register at the same moment, both may succeed.
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, CreateUserError>;

    /// The account that logs in with `email`: the one registered under this spelling, or else the one with its key.
    async fn account_by_email(&self, email: &Email) -> Result<Option<Account>, StoreError>;

    /// The user with this public id.
    async fn user_by_public_id(&self, public_id: &PublicId) -> Result<Option<User>, StoreError>;

    /// The users with these usernames, as they are spelled, by username. Unknown ones are left out.
    async fn user_ids(&self, usernames: &[String]) -> Result<HashMap<String, UserId>, StoreError>;

    /// At most `limit` users with a public id above `after`, sorted by public id.
    async fn list_users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError>;

    /// Replaces a password hash by one made with stronger parameters.
    async fn replace_password_hash(&self, user: UserId, hash: String) -> Result<(), StoreError>;

    /// Makes the user with this username an admin; false if there is none.
    async fn grant_admin(&self, username: &Username) -> Result<bool, StoreError>;

    /// Creates a session, and deletes some that have expired.
    async fn create_session(
        &self,
        id: SessionId,
        user: UserId,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// The session, unless it was revoked or does not exist. The caller checks whether it has expired.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Those of `ids` that exist and are not revoked.
    async fn unrevoked_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError>;

    /// Ends a session. It cannot be resumed.
    async fn revoke_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError>;
}
