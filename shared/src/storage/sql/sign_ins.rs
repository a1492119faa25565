//! Statements about networks that users signed in from, and about signing keys.

pub(in crate::storage) const KNOWN_NETWORK: &str =
    "SELECT expires_on FROM known_networks WHERE user_id = $1 AND network = $2 AND expires_on > $3";

pub(in crate::storage) const UPSERT_NETWORK: &str =
    "INSERT INTO known_networks (user_id, network, expires_on) VALUES ($1, $2, $3)
     ON CONFLICT (user_id, network) DO UPDATE SET expires_on = excluded.expires_on";

/// Deletes the networks of user `$1` that have expired by `$2`, and those beyond the `$3` that expire last.
pub(in crate::storage) const DELETE_OLD_NETWORKS: &str =
    "DELETE FROM known_networks WHERE user_id = $1 AND (expires_on <= $2 OR network NOT IN
     (SELECT network FROM known_networks WHERE user_id = $1 ORDER BY expires_on DESC, network LIMIT +$3))";

pub(in crate::storage) const LIST_SIGNING_KEYS: &str = "SELECT fingerprint FROM signing_keys";

pub(in crate::storage) const DELETE_SIGNING_KEYS: &str = "DELETE FROM signing_keys";
