//! What vouches for who signs in: networks that were signed in from before, and the keys that sign access tokens.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Timestamp, UserId};

/// Networks kept for one user; of more, those that were used longest ago are forgotten.
pub(super) const NETWORKS_KEPT: i64 = 20;

/// What is kept about signing in.
#[async_trait]
pub trait SignIns {
    /// Until when `network`, a digest, counts as one that `user` signs in from; `None` if it does not at `now`.
    async fn known_network(&self, user: UserId, network: &str, now: Timestamp)
    -> Result<Option<Timestamp>, StoreError>;

    /// Notes that `user` signed in from `network`, and forgets what has expired by `now` or is too much.
    async fn remember_network(
        &self,
        user: UserId,
        network: String,
        expires_on: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Notes that the signing keys are now those with `fingerprints`; false, and nothing is changed, if there are keys and all
    /// of them are others. With `replace` they are replaced whatever they are.
    async fn agree_on_signing_keys(
        &self,
        fingerprints: Vec<String>,
        replace: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// Whether `known` are exactly `fingerprints`: then nothing need be written, and a start does not wait for other writers.
pub(super) fn are_noted(known: &[String], fingerprints: &[String]) -> bool {
    known.len() == fingerprints.len() && known.iter().all(|known| fingerprints.contains(known))
}
