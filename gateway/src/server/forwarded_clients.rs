//! The clients behind trusted proxies, and their budgets.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;

use super::ClientOf;
use super::client_budget::{ClientBudget, ClientBudgets};

/// Finds the budget of the client behind a trusted proxy.
#[derive(Clone)]
pub(super) struct ForwardedClients {
    pub(super) client_of: ClientOf,
    pub(super) budgets: Arc<ClientBudgets>,
}

impl ForwardedClients {
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<ClientBudget> {
        (self.client_of)(peer.ip(), headers).map(|client| self.budgets.of(client))
    }
}
