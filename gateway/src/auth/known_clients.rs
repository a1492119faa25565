//! Known clients: networks and devices from which a user has logged in before. A device has a token of an earlier session.
//!
//! Wrong passwords from unknown clients slow down unknown clients only. If they were counted for the account alone, anybody
//! could keep its owner out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::domain::{Timestamp, UserId};
use shared::storage::{Store, StoreError, User};

use super::tokens::Tokens;
use crate::client_network::network;
use crate::digest::short_digest;
use crate::rate_limits::LoginClient;

/// How long a network is known after the last login from it.
const KNOWN_FOR: Duration = Duration::from_hours(90 * 24);

/// A login is recorded at most this often for a network.
const NOTED_EVERY: Duration = Duration::from_hours(24);

/// Tells known clients from unknown ones.
pub struct KnownClients {
    store: Store,
    tokens: Arc<Tokens>,
}

impl KnownClients {
    /// The networks in `store`, and the devices whose tokens were issued by `tokens`.
    #[must_use]
    pub fn new(store: Store, tokens: Arc<Tokens>) -> Self {
        Self { store, tokens }
    }

    /// Whether a login as `user`, if there is such a user, comes from a known client: from `address`, with a `token` that the
    /// device had before. The database is queried in any case, because the answer must not take another time for an unknown
    /// user.
    pub async fn classify(
        &self,
        user: Option<&User>,
        address: IpAddr,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<LoginClient, StoreError> {
        let device = token.and_then(|token| self.tokens.device(token));
        let id = user.map_or(UserId(0), |user| user.id);
        let digest = digest(id, address);
        let known = self.store.known_network(id, &digest, now).await?;
        let of_user = device.filter(|(_, public_id)| user.is_some_and(|user| user.public_id == *public_id));
        Ok(match (of_user, known) {
            (Some((session, _)), _) => LoginClient::Known(format!("device:{}", session.0.simple())),
            (None, Some(_)) => LoginClient::Known(format!("network:{digest}")),
            (None, None) => LoginClient::Unknown,
        })
    }

    /// Records that `user` has logged in from `address`.
    pub async fn remember(&self, user: UserId, address: IpAddr, now: Timestamp) -> Result<(), StoreError> {
        let (digest, until) = (digest(user, address), now.plus(KNOWN_FOR));
        match self.store.known_network(user, &digest, now).await? {
            Some(noted) if until.until(noted) < NOTED_EVERY => Ok(()),
            _ => self.store.remember_network(user, digest, until, now).await,
        }
    }
}

/// A digest of a user and their network, which reveals neither.
fn digest(user: UserId, address: IpAddr) -> String {
    short_digest(&[&user.0.to_be_bytes(), network(address).to_string().as_bytes()])
}
