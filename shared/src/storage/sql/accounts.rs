//! Statements about users and their sessions.

/// How many users have the first key as their public id's, and the second as their username's.
pub(in crate::storage) const COUNT_CROSSING_KEYS: &str = "SELECT (SELECT COUNT(*) FROM users WHERE public_id_key = $1),
            (SELECT COUNT(*) FROM users WHERE username_key = $2)";

pub(in crate::storage) const INSERT_USER: &str =
    "INSERT INTO users (public_id, email, username, password_hash, is_admin, created_on, email_key, username_key,
                        public_id_key)
     VALUES ($1, $2, $3, $4, $5 AND NOT EXISTS (SELECT 1 FROM users), $6, $7, $8, $9)
     RETURNING id, public_id, email, username, is_admin";

/// The exact spelling comes before one that has the same key.
pub(in crate::storage) const ACCOUNT_BY_EMAIL: &str =
    "SELECT id, public_id, email, username, is_admin, password_hash FROM users
     WHERE email = $1 OR email_key = $2 ORDER BY email = $1 DESC LIMIT 1";

pub(in crate::storage) const USER_BY_PUBLIC_ID: &str =
    "SELECT id, public_id, email, username, is_admin FROM users WHERE public_id = $1";

pub(in crate::storage) const LIST_USERS: &str =
    "SELECT id, public_id, email, username, is_admin FROM users WHERE public_id > $1 ORDER BY public_id LIMIT +$2";

pub(in crate::storage) const SET_PASSWORD_HASH: &str = "UPDATE users SET password_hash = $1 WHERE id = $2";

pub(in crate::storage) const GRANT_ADMIN: &str = "UPDATE users SET is_admin = TRUE WHERE username = $1";

pub(in crate::storage) const INSERT_SESSION: &str =
    "INSERT INTO sessions (id, user_id, expires_on) VALUES ($1, $2, $3)";

pub(in crate::storage) const UNREVOKED_SESSION: &str =
    "SELECT u.id, u.public_id, u.email, u.username, u.is_admin, s.expires_on
     FROM sessions s JOIN users u ON u.id = s.user_id
     WHERE s.id = $1 AND s.revoked_on IS NULL";

pub(in crate::storage) const REVOKE_SESSION: &str =
    "UPDATE sessions SET revoked_on = $1 WHERE id = $2 AND revoked_on IS NULL";
