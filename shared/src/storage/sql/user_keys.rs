//! Statements about users who lack a key.

/// The columns of [`UserWithoutKey`](crate::storage::user_keys::UserWithoutKey).
pub(in crate::storage) const LIST_USERS_WITHOUT_KEY: &str =
    "SELECT id, email, username, public_id, email_key IS NOT NULL AS has_email_key,
            username_key IS NOT NULL AS has_username_key, public_id_key IS NOT NULL AS has_public_id_key
     FROM users WHERE id > $1 AND (email_key IS NULL OR username_key IS NULL OR public_id_key IS NULL)
     ORDER BY id LIMIT +$2";
