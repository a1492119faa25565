//! Known sign-in networks of users, and the keys that sign access tokens.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Timestamp, UserId};

/// Networks that are kept for one user. Beyond it, those that expire first are deleted.
pub(super) const NETWORKS_KEPT: i64 = 20;

/// Known networks and signing keys.
#[async_trait]
pub trait SignIns {
    /// Until when `network`, a digest, is a known network of `user`; `None` if it is not one at `now`.
    async fn known_network(&self, user: UserId, network: &str, now: Timestamp)
    -> Result<Option<Timestamp>, StoreError>;

    /// Stores that `user` signed in from `network`, and deletes networks that have expired by `now` or are too many.
    async fn remember_network(
        &self,
        user: UserId,
        network: String,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Stores that the signing keys are those with `fingerprints`. It returns false and changes nothing if there are keys and
    /// none of them is among these. With `replace` it replaces them in any case.
    async fn agree_on_signing_keys(
        &self,
        fingerprints: Vec<String>,
        replace: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// Whether exactly the `fingerprints` are stored. Then nothing is written, and a start does not wait for other writers.
pub(super) fn are_stored(known: &[String], fingerprints: &[String]) -> bool {
    known.len() == fingerprints.len() && known.iter().all(|known| fingerprints.contains(known))
}

/// Whether keys are stored and none of the `fingerprints` is among them.
pub(super) fn are_others(known: &[String], fingerprints: &[String]) -> bool {
    !known.is_empty() && !known.iter().any(|known| fingerprints.contains(known))
}
